//! The other processors: found in the firmware's tables, started one after another by INIT and start-up (SDM vol 3A §8.4.4),
//! and kept spinning until [`Processors::release`] gives them work.
#![expect(unsafe_code, reason = "the entry of application processors, and what is handed to them")]

use super::layout::GUARD_BYTES;
use super::shared::{Common, Shared};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::arch::global_asm;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, SeqCst};
use hv_core::base::addr::{HostPhys, PAGE_BYTES};
use hv_core::base::id::CpuId;
use hv_core::base::time::{Frequency, Ticks};
use hv_core::machine::arch::apic::{Ipi, LocalApic};
use hv_core::machine::arch::skew::Question;
use hv_core::machine::arch::time::wait;
use hv_core::machine::arch::{clean, descriptors, interrupts, paging, percpu, stop};
use hv_core::machine::memory::Memory;
use hv_core::machine::vt::Vendor;
use hv_core::policy::skew::Bounds;
use spin::Once;

// This code is copied to a page below 1 MiB, where a start-up begins in real mode with CS at the page. It is position-independent.
global_asm!(
    ".pushsection .rodata.ap, \"a\", @progbits",
    ".code16",
    "ap_trampoline:",
    "cli",
    "cld",
    "mov ax, cs",
    "mov ds, ax",
    ".byte 0x0f, 0x01, 0x16", // LGDT with a 16-bit displacement; it loads 24 bits of base, and the image lies below that limit
    ".short ap_gdt_pointer - ap_trampoline",
    "mov eax, cr0",
    "or eax, 1",
    "mov cr0, eax",
    ".byte 0x66, 0xea", // far jump with a 32-bit offset
    ".long ap_protected",
    ".short 24",
    ".balign 4",
    "ap_gdt_pointer: .short 31",
    ".long boot_gdt",
    "ap_trampoline_end:",
    ".popsection",
    ".pushsection .text.boot, \"ax\", @progbits",
    ".code32",
    ".type ap_protected, @function",
    "ap_protected:",
    "mov eax, 16",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    // The processor that takes the ticket may enter. One that arrives after it was given up finds no ticket.
    "xor edi, edi",
    "xchg edi, dword ptr [{ticket}]",
    "test edi, edi",
    "jz 2f",
    "mov esp, dword ptr [edi]",
    "mov esi, offset ap_long",
    "jmp boot_long_mode",
    "2: cli",
    "hlt",
    "jmp 2b",
    ".code64",
    "ap_long:",
    "mov rsp, qword ptr [rdi]",
    "call qword ptr [rdi + 8]",
    "ud2",
    ".size ap_protected, . - ap_protected",
    ".popsection",
    ticket = sym TICKET,
);

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
}

/// Address, below 4 GiB, of the [`Entrant`] of the processor that is being started; 0 = none.
static TICKET: AtomicU32 = AtomicU32::new(0);
/// State shared by all processors, set by [`Processors::release`].
static COMMON: Once<Common> = Once::new();

const STACK_BYTES: u64 = 64 << 10;
/// Waits: from INIT to start-up (SDM: 10 ms), from start-up to its repetition (SDM: 200 µs), and until a processor is given up.
const INIT_NS: u64 = 10_000_000;
const AGAIN_NS: u64 = 200_000;
const PATIENCE_NS: u64 = 500_000_000;
/// Largest offset between counters that count as one clock (DESIGN §4).
const MAX_SKEW_NS: u64 = 1_000;

/// Parameters of a processor that is being started. Never freed: the processor may come up late.
#[repr(C)]
struct Entrant<V: Vendor> {
    /// Top of the processor's stack; the entry code reads it.
    stack_top: u64,
    /// The processor's first Rust function; the entry code calls it with this structure.
    main: extern "sysv64" fn(&'static Self) -> !,
    cpu: CpuId,
    /// The vendor's pages for this processor ([`Vendor::PROCESSOR_PAGES`]).
    pages: HostPhys,
    wanted: V::Capabilities,
    tsc: Frequency,
    /// Set by the processor: it came up, or the reason why it cannot be used.
    outcome: Once<Result<(), String>>,
    question: Question,
    /// Set by [`Processors::release`]; the processor spins until then.
    work: Once<Shared<V>>,
}

/// The processors that have come up, by number.
pub struct Processors<V: Vendor> {
    /// Their local APIC ids.
    pub apic_ids: Vec<u32>,
    /// All processors but the first, waiting for work.
    waiting: Vec<&'static Entrant<V>>,
    /// Whether their time-stamp counters are one clock.
    pub one_clock: bool,
}

/// Parameters for starting processors.
pub struct Start<'a, V: Vendor> {
    /// Memory for stacks and save areas.
    pub memory: &'a mut Memory,
    /// The first processor's local APIC, which sends the IPIs.
    pub apic: &'a mut LocalApic,
    /// Local APIC ids of the processors to start.
    pub others: Vec<u32>,
    /// The first processor's capabilities, which each other must match.
    pub wanted: V::Capabilities,
    /// The time-stamp counter's frequency.
    pub tsc: Frequency,
    /// A free page at which a start-up may begin.
    pub page: Option<HostPhys>,
}

/// Starts the processors one after another. A processor that does not come up is logged with the reason and left out.
pub fn start<V: Vendor>(
    mut start: Start<'_, V>,
    mut say: impl FnMut(core::fmt::Arguments<'_>),
) -> Processors<V> {
    let others = core::mem::take(&mut start.others);
    let mut up = Processors { apic_ids: alloc::vec![start.apic.id()], waiting: Vec::new(), one_clock: true };
    if others.is_empty() {
        return up;
    }
    let Some(page) = start.page.and_then(copy_trampoline) else {
        say(format_args!(
            "cpu: left out count={} reason=no free page below 640 KiB to start in",
            others.len()
        ));
        return up;
    };
    for id in others {
        let number = CpuId(u16::try_from(up.apic_ids.len()).unwrap_or(u16::MAX));
        let Some(entrant) = prepare(&mut start, number) else {
            say(format_args!("cpu: left out apic={id} reason=too little memory"));
            continue;
        };
        match bring_up(&mut start, id, page, entrant) {
            Ok(bounds) => {
                let skew_ns = start.tsc.ns(Ticks(bounds.skew()));
                if skew_ns > MAX_SKEW_NS {
                    say(format_args!("cpu: clock apart apic={id} skew_ns={skew_ns}"));
                    up.one_clock = false;
                }
                up.apic_ids.push(id);
                up.waiting.push(entrant);
            }
            Err(reason) => say(format_args!("cpu: left out apic={id} reason={reason}")),
        }
    }
    up
}

/// Copies the entry code to a free page below 1 MiB; returns the page's number.
fn copy_trampoline(page: HostPhys) -> Option<u8> {
    let (begin, end) = (&raw const ap_trampoline, &raw const ap_trampoline_end);
    let number = u8::try_from(page.raw() / PAGE_BYTES).ok()?;
    let to: *mut u8 = core::ptr::with_exposed_provenance_mut(usize::try_from(page.raw()).ok()?);
    // SAFETY: the page is RAM in the loader's map and holds no data (`boot/entry.rs`); it has no other owner, since no frame below 1 MiB
    // is handed out; the code is shorter than a page.
    unsafe { core::ptr::copy_nonoverlapping(begin, to, end as usize - begin as usize) };
    Some(number)
}

/// Allocates a processor's stack, above its guard, and the vendor's pages.
fn prepare<V: Vendor>(start: &mut Start<'_, V>, cpu: CpuId) -> Option<&'static Entrant<V>> {
    let memory = &mut *start.memory;
    let guard = memory.pages((GUARD_BYTES + STACK_BYTES) / PAGE_BYTES, PAGE_BYTES)?;
    // SAFETY: other processors may run already, but none has accessed these pages yet, so no TLB holds them.
    if !unsafe { paging::unmap(memory, guard, GUARD_BYTES) } {
        return None;
    }
    Some(Box::leak(Box::new(Entrant {
        stack_top: guard.raw() + GUARD_BYTES + STACK_BYTES,
        main: ap_main::<V>,
        cpu,
        pages: memory.pages(V::PROCESSOR_PAGES, PAGE_BYTES)?,
        wanted: start.wanted,
        tsc: start.tsc,
        outcome: Once::new(),
        question: Question::default(),
        work: Once::new(),
    })))
}

/// Starts one processor and measures its clock against this one's.
fn bring_up<V: Vendor>(
    start: &mut Start<'_, V>,
    id: u32,
    page: u8,
    entrant: &'static Entrant<V>,
) -> Result<Bounds, String> {
    let address = u32::try_from(core::ptr::from_ref(entrant).expose_provenance());
    TICKET.store(address.map_err(|_| String::from("its block lies above 4 GiB"))?, SeqCst);
    start.apic.send(id, Ipi::Init);
    wait(start.tsc, INIT_NS, || false);
    for patience_ns in [AGAIN_NS, PATIENCE_NS] {
        start.apic.send(id, Ipi::StartUp(page));
        if wait(start.tsc, patience_ns, || TICKET.load(Acquire) == 0) {
            break;
        }
    }
    if TICKET.swap(0, SeqCst) != 0 {
        return Err("it does not start".into()); // if it starts later, it finds no ticket
    }
    wait(start.tsc, PATIENCE_NS, || entrant.outcome.is_completed());
    entrant.outcome.get().cloned().unwrap_or_else(|| Err("it started and did not come up".into()))?;
    Ok(entrant.question.ask())
}

impl<V: Vendor> Processors<V> {
    /// Gives the waiting processors their work: each makes its own state and joins.
    pub fn release(&self, work: Shared<V>) {
        COMMON.call_once(|| work.common);
        for entrant in &self.waiting {
            entrant.work.call_once(|| work);
        }
    }
}

/// Returns the state shared by all processors; `None` before [`Processors::release`].
pub fn work() -> Option<&'static Common> {
    COMMON.get()
}

/// First Rust code of an application processor.
extern "sysv64" fn ap_main<V: Vendor>(entrant: &'static Entrant<V>) -> ! {
    percpu::install(entrant.cpu);
    descriptors::install();
    interrupts::install();
    clean::registers();
    // SAFETY: CPL 0, the APIC's page is below 4 GiB and mapped, and only this code drives this processor's.
    let apic = unsafe { LocalApic::enable() };
    // SAFETY: CPL 0 on the processor that will use it; the pages were taken for this.
    let processor = match unsafe { V::enable(entrant.pages, entrant.tsc) } {
        Ok(on) if V::capabilities(&on) == entrant.wanted => on,
        Ok(_) => refuse(entrant, format!("its {} differs from the first processor's", V::NAME)),
        Err(missing) => refuse(entrant, missing.to_string()),
    };
    entrant.outcome.call_once(|| Ok(()));
    entrant.question.answer();
    let work = entrant.work.wait();
    let mut cpu = work.join(entrant.cpu, apic, processor);
    work.common.fail_if_asked(entrant.cpu);
    cpu.run_forever();
    stop::here()
}

fn refuse<V: Vendor>(entrant: &Entrant<V>, reason: String) -> ! {
    entrant.outcome.call_once(|| Err(reason));
    stop::here()
}
