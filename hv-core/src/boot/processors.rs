//! The other processors: found in the firmware's tables, started one after another by INIT and start-up (SDM vol 3A §8.4.4),
//! and kept at their stations until there is work.
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

// Copied to a page below 1 MiB, where a start-up begins in real mode with CS at the page. No address in it is its own.
global_asm!(
    ".pushsection .rodata.ap, \"a\", @progbits",
    ".code16",
    "ap_trampoline:",
    "cli",
    "cld",
    "mov ax, cs",
    "mov ds, ax",
    ".byte 0x0f, 0x01, 0x16", // LGDT with a 16-bit displacement; 24 bits of base, which the image lies below
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
    // Who takes the ticket may come in. One that comes after it was given up finds none.
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

/// Address of the [`Entrant`] whose turn it is, below 4 GiB; 0 = nobody's.
static TICKET: AtomicU32 = AtomicU32::new(0);
/// What all processors have in common, once there is work.
static COMMON: Once<Common> = Once::new();

const STACK_BYTES: u64 = 64 << 10;
/// INIT to start-up (SDM: 10 ms), start-up to its repetition (SDM: 200 µs), and until a processor is given up.
const INIT_NS: u64 = 10_000_000;
const AGAIN_NS: u64 = 200_000;
const PATIENCE_NS: u64 = 500_000_000;
/// Counters further apart than this are not one clock (DESIGN §4).
const MAX_SKEW_NS: u64 = 1_000;

/// What a processor finds when it comes up. Never freed: it may come late.
#[repr(C)]
struct Entrant<V: Vendor> {
    /// Top of its stack; the entry code reads it.
    stack_top: u64,
    /// Where it goes on; the entry code calls it, with this.
    main: extern "sysv64" fn(&'static Self) -> !,
    cpu: CpuId,
    /// Pages of its own.
    pages: HostPhys,
    wanted: V::Capabilities,
    tsc: Frequency,
    /// Whether it came up, or why it refused.
    outcome: Once<Result<(), String>>,
    question: Question,
    /// What it waits for at its station.
    work: Once<Shared<V>>,
}

/// The processors that run, by number.
pub struct Processors<V: Vendor> {
    /// Their local APIC ids.
    pub apic_ids: Vec<u32>,
    /// Those but the first, at their stations.
    waiting: Vec<&'static Entrant<V>>,
    /// Their counters are one clock.
    pub one_clock: bool,
}

/// What starting them needs.
pub struct Start<'a, V: Vendor> {
    /// For stacks and save areas.
    pub memory: &'a mut Memory,
    /// The first processor's.
    pub apic: &'a mut LocalApic,
    /// APIC ids of those to be started.
    pub others: Vec<u32>,
    /// What each must be able to do.
    pub wanted: V::Capabilities,
    /// The time-stamp counter's frequency.
    pub tsc: Frequency,
    /// A page that nobody needs, where a start-up may begin.
    pub page: Option<HostPhys>,
}

/// Starts the processors one after another. Each that does not come up is named, with the reason, and left out.
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

/// Copies the entry code to a page below 1 MiB that is in nobody's use; its number.
fn copy_trampoline(page: HostPhys) -> Option<u8> {
    let (begin, end) = (&raw const ap_trampoline, &raw const ap_trampoline_end);
    let number = u8::try_from(page.raw() / PAGE_BYTES).ok()?;
    let to: *mut u8 = core::ptr::with_exposed_provenance_mut(usize::try_from(page.raw()).ok()?);
    // SAFETY: the page is RAM in the loader's map and nothing lies in it (`boot/entry.rs`), no more than in the rest of the first MiB
    // is anybody's frame; the code is shorter than a page.
    unsafe { core::ptr::copy_nonoverlapping(begin, to, end as usize - begin as usize) };
    Some(number)
}

/// Takes what a processor needs: a stack above its guard, and the vendor's pages.
fn prepare<V: Vendor>(start: &mut Start<'_, V>, cpu: CpuId) -> Option<&'static Entrant<V>> {
    let memory = &mut *start.memory;
    let guard = memory.pages((GUARD_BYTES + STACK_BYTES) / PAGE_BYTES, PAGE_BYTES)?;
    // SAFETY: other processors may be at their stations, but nobody has touched this page yet, so nobody has it cached.
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
        return Err("it does not start".into()); // and if it ever does, it finds no ticket
    }
    wait(start.tsc, PATIENCE_NS, || entrant.outcome.is_completed());
    entrant.outcome.get().cloned().unwrap_or_else(|| Err("it started and did not come up".into()))?;
    Ok(entrant.question.ask())
}

impl<V: Vendor> Processors<V> {
    /// Lets the processors at their stations work. They build what is theirs and join.
    pub fn release(&self, work: Shared<V>) {
        COMMON.call_once(|| work.common);
        for entrant in &self.waiting {
            entrant.work.call_once(|| work);
        }
    }
}

/// What the processors have in common, once there is work.
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
