//! Guests that do anything at all: nothing panics or hangs, no vCPU is lost, all time is charged, and a guest that only
//! computes gets its share.

mod common;

use common::{MS, US};
use hv_core::base::addr::GuestPhys;
use hv_core::base::control::Control;
use hv_core::base::hardware::GuestBytes;
use hv_core::base::id::VcpuId;
use hv_core::base::time::{Ticks, Tsc};
use hv_core::guest::guest::WINDOW_BASE;
use hv_core::guest::seam::{Access, CpuRegisters, Direction, Exit, PortAccess, Reg};
use hv_core::guest::vcpu::Rest;
use hv_core::image::manifest::ChannelConfig;
use hv_core::policy::presence::{Attention, Life};
use hv_core::testkit::{Machine, Spec, Step, Stuck, at, call_steps, write_msr_steps};
use proptest::prelude::*;
use pv_abi::call::{Call, PREFIX};
use std::sync::atomic::Ordering::SeqCst;

/// How long a case runs, in the machine's time.
const HORIZON: u64 = 200 * MS;
/// The guest that only computes.
const HONEST: VcpuId = at(2, 0);
const HOSTILE: [VcpuId; 5] = [at(0, 0), at(0, 1), at(0, 2), at(1, 0), at(1, 1)];

/// Where code for an access to a device is put.
const CODE: u64 = 0x20_0000;

/// Something a guest does.
#[derive(Clone, Debug)]
enum Act {
    Run(u64),
    Call(u64, [u64; 4]),
    Exit(Exit),
    ReadMsr(u32),
    WriteMsr(u32, u64),
    Out(u16, u8, u32),
    In(u16, u8),
    /// Own demand row, own event line, a sibling's event line, the console ring, the channel; word and value.
    Store(u8, usize, u64),
    /// next_wake so many ticks ahead.
    Wake(u64),
    /// The cookie that makes its row count.
    Cookie,
    Interrupts(bool),
    Sti,
    Privilege(u8),
    Apic,
    /// A hypercall of KVM's.
    Kvm(u64, [u64; 4]),
    /// A load or a store of EAX at an address of a device.
    Touch(u64, Access, u32),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..4,
        2 => 0_u64..70,
        1 => Just(u64::MAX),
        1 => (0_u64..520).prop_map(|page| WINDOW_BASE + page * 4096),
        1 => any::<u64>(),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        prop::sample::select(vec![
            0x20, 0x21, 0xa0, 0xa1, 0x40, 0x42, 0x43, 0x61, 0x64, 0x70, 0x71, 0x92, 0x3f8, 0x3f9, 0x3fa,
            0x3fc, 0x3fd, 0x604, 0x608, 0xcf0, 0xcf4, 0xcf8, 0xcf9, 0xc0f0, 0xc100, 0xc108, 0xc10c, 0xffff,
        ]),
        any::<u16>(),
    ]
}

fn msr() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![
            0x10,
            0x1b,
            0x277,
            0x6e0,
            0x808,
            0x80b,
            0x80f,
            0x830,
            0x832,
            0x838,
            0x83e,
            0x83f,
            0xc000_0080
        ]),
        0x4b56_4d00_u32..0x4b56_4d06,
        0x800_u32..0x840,
        any::<u32>(),
    ]
}

/// A register of the local APIC's page or the I/O APIC's.
fn device() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0_u64..0x40).prop_map(|register| 0xfee0_0000 + register * 16),
        prop::sample::select(vec![0xfec0_0000, 0xfec0_0010, 0xfec0_0040]),
        0xfec0_0000_u64..0xfec0_1000,
    ]
}

fn icr() -> impl Strategy<Value = u64> {
    (prop_oneof![0_u64..3, Just(0xffff_ffff)], 0_u64..7, 0_u64..4, 0_u64..256)
        .prop_map(|(to, mode, shorthand, vector)| to << 32 | shorthand << 18 | 1 << 14 | mode << 8 | vector)
}

fn exit() -> impl Strategy<Value = Exit> {
    let fault = Exit::MemoryFault { at: GuestPhys::new_truncate(0xfee0_0000), access: Access::Write };
    let string = Exit::StringPort(PortAccess { port: 0x3f8, size_bytes: 1, direction: Direction::Out });
    prop_oneof![
        6 => Just(Exit::Halt),
        6 => Just(Exit::Pause),
        3 => Just(Exit::Cpuid),
        2 => Just(Exit::HostInterrupt),
        2 => Just(Exit::Undefined),
        2 => Just(Exit::CacheFlush),
        1 => Just(Exit::Window),
        1 => prop::sample::select(vec![fault, string, Exit::Shutdown, Exit::BadState, Exit::Unknown { code: 7 }]),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let calls = prop_oneof![8 => (0..=Call::ALL.len() as u64).prop_map(|n| PREFIX | n), 1 => any::<u64>()];
    prop_oneof![
        6 => prop_oneof![0_u64..100, 0_u64..300 * US, 0_u64..6 * MS].prop_map(Act::Run),
        10 => (calls, [number(), number(), number(), number()]).prop_map(|(call, args)| Act::Call(call, args)),
        2 => (0_u64..3).prop_map(|target| Act::Call(Call::VCPU_START.0, [target, 0, 0, 0])),
        4 => exit().prop_map(Act::Exit),
        2 => msr().prop_map(Act::ReadMsr),
        3 => (msr(), prop_oneof![number(), 0_u64..5_000_000]).prop_map(|(index, value)| Act::WriteMsr(index, value)),
        3 => icr().prop_map(|value| Act::WriteMsr(0x830, value)),
        5 => (port(), prop::sample::select(vec![1_u8, 2, 4]), any::<u32>()).prop_map(|(port, size, value)| Act::Out(port, size, value)),
        2 => (port(), prop::sample::select(vec![1_u8, 2, 4])).prop_map(|(port, size)| Act::In(port, size)),
        6 => (0_u8..5, 0_usize..1024, number()).prop_map(|(table, word, value)| Act::Store(table, word, value)),
        4 => (0_u64..8 * MS).prop_map(Act::Wake),
        3 => Just(Act::Cookie),
        2 => any::<bool>().prop_map(Act::Interrupts),
        2 => Just(Act::Sti),
        1 => (0_u8..4).prop_map(Act::Privilege),
        1 => Just(Act::Apic),
        3 => (0_u64..13, [number(), number(), number(), number()]).prop_map(|(call, args)| Act::Kvm(call, args)),
        5 => (device(), prop::sample::select(vec![Access::Read, Access::Write]), prop_oneof![any::<u32>(), 0_u32..0x200])
            .prop_map(|(at, access, value)| Act::Touch(at, access, value)),
    ]
}

fn steps(machine: &Machine, id: VcpuId, act: &Act) -> Vec<Step> {
    let shared = machine.shared(id);
    let guest = machine.guest(id.guest.0);
    let port =
        |port, size_bytes, direction| Step::Exit(Exit::Port(PortAccess { port, size_bytes, direction }));
    let set = |reg, value| Step::act(move |vcpu| vcpu.set_reg(reg, value));
    match act.clone() {
        Act::Run(ticks) => vec![Step::Run(ticks)],
        Act::Call(call, arguments) => call_steps(Call(call), &arguments).into(),
        Act::Exit(exit) => vec![Step::Exit(exit)],
        Act::ReadMsr(index) => vec![set(Reg::Rcx, u64::from(index)), Step::Exit(Exit::ReadMsr)],
        Act::WriteMsr(index, value) => write_msr_steps(index, value).into(),
        Act::Out(at, size, value) => vec![set(Reg::Rax, u64::from(value)), port(at, size, Direction::Out)],
        Act::In(at, size) => vec![port(at, size, Direction::In)],
        Act::Store(table, word, value) => {
            let sibling = guest.vcpus[0];
            let words: &'static [_] = match table {
                0 => shared.demand,
                1 => shared.event,
                2 => sibling.event,
                3 => guest.tables.console.words,
                _ => guest.channels.first().map_or(&[], |end| end.frames.words),
            };
            vec![Step::act(move |_| {
                if let Some(word) = words.get(word % words.len().max(1)) {
                    word.store(value, SeqCst);
                }
            })]
        }
        Act::Wake(ahead) => {
            let world = std::rc::Rc::clone(&machine.world);
            vec![Step::act(move |_| shared.demand[3].store(world.now().0 + ahead, SeqCst))]
        }
        Act::Cookie => {
            vec![Step::act(move |_| shared.demand[0].store(u64::from(shared.cookie()) << 48, SeqCst))]
        }
        Act::Interrupts(on) => vec![Step::act(move |vcpu| vcpu.interrupts = on)],
        Act::Sti => {
            let sti = Step::act(|vcpu| {
                vcpu.interrupts = true;
                vcpu.shadow = true;
            });
            vec![sti, Step::Exit(Exit::Halt)]
        }
        Act::Kvm(call, arguments) => {
            let registers = [Reg::Rbx, Reg::Rcx, Reg::Rdx, Reg::Rsi].into_iter().zip(arguments);
            let mut steps = vec![set(Reg::Rax, call)];
            steps.extend(registers.map(|(reg, value)| set(reg, value)));
            steps.push(Step::Exit(Exit::Call));
            steps
        }
        Act::Touch(at, access, value) => {
            let code = if access == Access::Write { [0x89, 0x07] } else { [0x8b, 0x07] };
            let act = Step::act(move |vcpu| {
                let _ = guest.ram.write(GuestPhys::new_truncate(CODE), &code);
                vcpu.set_reg(Reg::Rax, u64::from(value));
                vcpu.rip = CODE;
                vcpu.control =
                    Control { efer: 0x500, segments: [(0x10, 0xa9b), (0x18, 0xc93)], ..Control::default() };
            });
            vec![act, Step::Exit(Exit::MemoryFault { at: GuestPhys::new_truncate(at), access })]
        }
        Act::Privilege(cpl) => vec![Step::act(move |vcpu| vcpu.cpl = cpl)],
        Act::Apic => {
            [write_msr_steps(0x1b, 0xfee0_0d00), write_msr_steps(0x80f, 0x1ff), write_msr_steps(0x83e, 0xb)]
                .into_iter()
                .flatten()
                .collect()
        }
    }
}

fn all() -> impl Iterator<Item = VcpuId> {
    HOSTILE.into_iter().chain([HONEST])
}

/// What holds between any two turns.
fn check(machine: &mut Machine) {
    let mut places: Vec<_> = std::iter::once(&mut machine.cpu).chain(&mut machine.others).collect();
    let cpus = places.len();
    let queues = places.iter().map(|cpu| &cpu.core.queue);
    let in_queues: u32 = queues.map(|queue| queue.waiting() + u32::from(queue.current().is_some())).sum();
    let system = places[0].core.system;
    let mut held = 0;
    for shared in &system.vcpus {
        let holders = places.iter_mut().filter_map(|cpu| cpu.vcpu_mut(shared.slot)).count();
        assert!(holders <= 1, "{:?} is held twice", shared.id);
        held += u32::from(holders == 1 && shared.life() == Life::Runnable);
    }
    assert_eq!(in_queues, held, "a vCPU was lost, or runs although it may not");
    let on_cpu: Vec<_> = all().filter(|id| machine.shared(*id).dispatch_seq() % 2 == 1).collect();
    assert!(on_cpu.len() <= cpus, "{on_cpu:?} claim {cpus} CPUs");
    for id in all() {
        let shared = machine.shared(id);
        if shared.life() == Life::Blocked && system.cpu_table.cpu(shared.holder()).mailbox.is_empty() {
            // Who was off CPU when memory was given back sleeps on, and flushes when it wakes.
            let to_look = shared.attention() & !Attention::FLUSH;
            assert!(to_look.is_empty(), "{id:?} sleeps although it is to look");
            let vcpu = machine.vcpu(id);
            let takes = vcpu.rest == Rest::Blocked || vcpu.state.interrupts;
            assert!(
                !takes || shared.posted.highest().is_none(),
                "{id:?} sleeps beside an interrupt it would take"
            );
        }
    }
}

fn run_ticks(machine: &Machine, id: VcpuId) -> u64 {
    machine.cpu.core.queue.usage(machine.shared(id).slot).run.0
}

fn machine(cpus: u8, clock_reads: u64, visible: bool) -> Machine {
    let mut first = Spec::cooperative("calls").vcpus(3).restarts(3);
    if !visible {
        first = first.blind();
    }
    let second = Spec::kvm("pc").vcpus(2).restarts(3).mark_port();
    let channel = ChannelConfig { ends: [0, 1], pages: 1 };
    let machine = Machine::boot_on(cpus, [first, second, Spec::full("honest")], &[channel]);
    machine.world.clock_reads.set(clock_reads);
    machine
}

/// Runs the scripts, with the checks between the turns; returns since when and until when.
fn run(machine: &mut Machine, scripts: &[Vec<Act>]) -> (Tsc, Tsc) {
    for (id, script) in HOSTILE.into_iter().zip(scripts) {
        for act in script {
            let steps = steps(machine, id, act);
            machine.script(id, steps);
        }
    }
    let from = machine.world.now();
    let until = from + Ticks(HORIZON);
    while machine.world.now() < until {
        let to = machine.world.now() + Ticks(1);
        let stuck = machine.go_to(to);
        check(machine);
        if let Some(stuck) = stuck {
            assert_eq!(stuck, Stuck::Spinning(machine.shared(HONEST).slot), "nobody else wants the CPU");
            break;
        }
    }
    let now = machine.world.now();
    machine.cpu.core.queue.charge(now);
    (from, now)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_guests_do_all_time_is_charged_and_an_honest_one_gets_its_share(
        scripts in prop::collection::vec(prop::collection::vec(act(), 0..60), 5),
        visible in any::<bool>(),
    ) {
        let mut machine = machine(1, 0, visible);
        let (from, until) = run(&mut machine, &scripts);
        let elapsed = until.since(from).0;
        let charged: u64 = all().map(|id| run_ticks(&machine, id)).sum();
        prop_assert_eq!(charged + machine.cpu.core.tally().idle_ticks.get(), elapsed);
        let got = run_ticks(&machine, HONEST);
        // docs/src/scheduler.md: its share less two of its requests and the least turn.
        let due = (elapsed / 3).saturating_sub(2 * 2 * MS + 200 * US);
        prop_assert!(got >= due, "got {} of {}, at least {} is due", got, elapsed, due);
    }

    #[test]
    fn the_hypervisors_own_time_is_charged_too(
        scripts in prop::collection::vec(prop::collection::vec(act(), 0..40), 5),
        clock_reads in 1_u64..500,
    ) {
        let mut machine = machine(1, clock_reads, true);
        let (from, until) = run(&mut machine, &scripts);
        let elapsed = until.since(from).0;
        let charged: u64 = all().map(|id| run_ticks(&machine, id)).sum();
        let uncharged = elapsed - machine.cpu.core.tally().idle_ticks.get() - charged;
        prop_assert!(uncharged <= elapsed / 100, "{} of {} ticks are nobody's", uncharged, elapsed);
    }

    #[test]
    fn on_several_processors_no_vcpu_is_lost_or_held_twice_and_the_honest_one_goes_on(
        scripts in prop::collection::vec(prop::collection::vec(act(), 0..40), 5),
        cpus in 2_u8..5,
        clock_reads in 0_u64..200,
    ) {
        let mut machine = machine(cpus, clock_reads, true);
        let (from, until) = run(&mut machine, &scripts);
        let elapsed = until.since(from).0;
        let got = machine.shared(HONEST).tally.guest_ticks.get();
        // The clock stands for one processor at a time, so a processor has its part of it.
        let due = (elapsed / u64::from(cpus) / 3).saturating_sub(8 * MS);
        prop_assert!(got >= due, "got {} of {}, at least {} is due", got, elapsed, due);
    }
}
