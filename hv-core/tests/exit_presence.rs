//! How present a guest is on each processor, and so what weight it has there.

mod common;

use common::{MS, US};
use hv_core::base::id::{CpuId, VcpuId};
use hv_core::base::time::Ticks;
use hv_core::guest::seam::{CpuRegisters, Exit, Reg};
use hv_core::policy::cpu_shared::{CpuShared, NameTag};
use hv_core::policy::vcpu_shared::VcpuShared;
use hv_core::testkit::{Machine, ScriptedVcpu, Spec, Step, World, at, call_steps};
use pv_abi::call::{Call, Code};
use pv_abi::demand::word;
use pv_abi::status::word as status;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Each processor has its guests run for half of the time: the clock is one for both.
const CPUS: u8 = 2;

/// A vCPU that knows when guests are counted, and sleeps just then. It computes a little more in each epoch.
struct Dodger {
    epoch_end: Rc<Cell<u64>>,
    next_wake: &'static AtomicU64,
    most: u64,
    computed: u64,
}

impl Dodger {
    fn step(mut self, vcpu: &mut ScriptedVcpu) {
        if self.computed < self.most {
            self.computed += 10 * US;
            vcpu.script.push_back(Step::Run(10 * US));
        } else {
            (self.computed, self.most) = (0, (self.most + 20 * US).min(2_250 * US));
            self.next_wake.store(self.epoch_end.get() + 20 * US, SeqCst);
            vcpu.set_reg(Reg::Rax, Call::BLOCK.0);
            vcpu.set_reg(Reg::Rdi, 0);
            vcpu.script.push_back(Step::Exit(Exit::Call));
        }
        vcpu.script.push_back(Step::act(|vcpu| self.step(vcpu)));
    }
}

fn ran(machine: &Machine, guest: u16) -> u64 {
    machine.guest(guest).vcpus.iter().map(|vcpu| vcpu.tally.guest_ticks.get()).sum()
}

fn pass(machine: &mut Machine, dodgers: &[(VcpuId, Rc<Cell<u64>>)], ticks: u64) {
    let end = machine.world.now() + Ticks(ticks);
    while machine.world.now() < end {
        let _ = machine.step();
        for (id, epoch_end) in dodgers {
            let holder = machine.shared(*id).holder();
            let mut cpus = std::iter::once(&machine.cpu).chain(&machine.others);
            if let Some(cpu) = cpus.find(|cpu| cpu.core.cpu == holder) {
                epoch_end.set(cpu.epoch_end().0);
            }
        }
    }
}

#[test]
fn a_guest_that_sleeps_when_guests_are_counted_has_no_larger_share() {
    let guest = |name| Spec::cooperative(name).vcpus(CPUS).pin(&[0, 1]);
    let mut machine = Machine::boot_on(CPUS, [guest("dodger"), guest("two"), guest("three")], &[]);
    for guest in 0..3 {
        assert_eq!(machine.call(at(guest, 0), Call::VCPU_START, &[1, 0, 0, 0]).0, Code::OK);
    }
    let dodgers = [0, 1].map(|index| (at(0, index), Rc::new(Cell::new(0))));
    for (id, epoch_end) in &dodgers {
        machine.register(*id, 0);
        machine.set_demand(*id, word::REQUEST, 100_000);
        let next_wake = &machine.shared(*id).demand[word::NEXT_WAKE];
        let dodger = Dodger { epoch_end: Rc::clone(epoch_end), next_wake, most: 1_125 * US, computed: 0 };
        machine.set_demand(*id, word::NEXT_WAKE, 300 * MS);
        machine.script(*id, call_steps(Call::BLOCK, &[0]));
        machine.script(*id, [Step::act(|vcpu| dodger.step(vcpu))]);
    }
    pass(&mut machine, &dodgers, 1_000 * MS);
    let before = [0, 1, 2].map(|guest| ran(&machine, guest));
    pass(&mut machine, &dodgers, 1_000 * MS);
    let [dodger, two, three] = [0, 1, 2].map(|guest| ran(&machine, guest) - before[usize::from(guest)]);
    let all = dodger + two + three;
    assert!(dodger * 100 <= all * 34, "{dodger} of {all}");
    assert!(two.min(three) * 100 >= all * 32, "{two} and {three} of {all}");
}

/// A vCPU that is alone on its processor and sleeps when it thinks that another one counts: 10 ms after the last time.
struct Foreseer {
    world: Rc<World>,
    foreseen: Rc<Cell<u64>>,
    next_wake: &'static AtomicU64,
}

impl Foreseer {
    fn step(self, vcpu: &mut ScriptedVcpu) {
        let (now, foreseen) = (self.world.now().0, self.foreseen.get());
        if now < foreseen && now + 30 * US >= foreseen {
            self.next_wake.store(foreseen + 20 * US, SeqCst);
            vcpu.set_reg(Reg::Rax, Call::BLOCK.0);
            vcpu.set_reg(Reg::Rdi, 0);
            vcpu.script.push_back(Step::Exit(Exit::Call));
        } else {
            vcpu.script.push_back(Step::Run(10 * US));
        }
        vcpu.script.push_back(Step::act(|vcpu| self.step(vcpu)));
    }
}

#[test]
fn no_guest_foresees_when_guests_are_counted() {
    let specs = [Spec::cooperative("two").vcpus(2).pin(&[0, 1]), Spec::cooperative("one").pin(&[0])];
    let mut machine = Machine::boot_on(CPUS, specs, &[]);
    assert_eq!(machine.call(at(0, 0), Call::VCPU_START, &[1, 0, 0, 0]).0, Code::OK);
    let lone = at(0, 1);
    machine.register(lone, 0);
    let (world, foreseen) = (Rc::clone(&machine.world), Rc::new(Cell::new(0)));
    let next_wake = &machine.shared(lone).demand[word::NEXT_WAKE];
    let foreseer = Foreseer { world, foreseen: Rc::clone(&foreseen), next_wake };
    machine.script(lone, [Step::act(|vcpu| foreseer.step(vcpu))]);
    let (end, mut last) = (machine.world.now() + Ticks(2_000 * MS), machine.cpu.epoch_end());
    while machine.world.now() < end {
        let _ = machine.step();
        if machine.cpu.epoch_end() != last {
            last = machine.cpu.epoch_end();
            foreseen.set(machine.world.now().0 + 10 * MS);
        }
    }
    // Of the processor where they meet a third is due to a guest that has the other one besides.
    let (two, one) = (machine.shared(at(0, 0)).tally.guest_ticks.get(), ran(&machine, 1));
    assert!(one * 100 >= (one + two) * 64, "{one} of {}", one + two);
}

/// What the others see of a processor on which a guest's vCPU is alone that sleeps whenever a turn may end where it has a sibling. Only
/// there does time pass here, so each step of whoever runs there says how that vCPU stands.
struct Beside {
    world: Rc<World>,
    cpu: &'static CpuShared,
    name: NameTag,
    /// Whether it is the sibling that runs, and what it is told.
    sibling: Option<&'static VcpuShared>,
    turn_end: Rc<Cell<u64>>,
    dispatches: &'static VcpuShared,
    seen: u64,
}

impl Beside {
    fn step(mut self, vcpu: &mut ScriptedVcpu) {
        let now = self.world.now().0;
        if self.dispatches.dispatch_seq() != self.seen {
            self.seen = self.dispatches.dispatch_seq();
            self.turn_end.set(now + 2 * MS - 10 * US); // as long as everybody's whose demand says nothing
        }
        if let Some(sibling) = self.sibling {
            self.turn_end.set(sibling.status[status::SLICE_END].load(SeqCst));
        }
        let runs = now + 30 * US < self.turn_end.get();
        self.cpu.publish_running(if runs { self.name } else { NameTag::NOBODY });
        vcpu.script.push_back(Step::Run(10 * US));
        vcpu.script.push_back(Step::act(|vcpu| self.step(vcpu)));
    }
}

#[test]
fn guests_are_counted_in_the_midst_of_turns() {
    let specs = [Spec::cooperative("two").vcpus(2).pin(&[0, 1]), Spec::cooperative("one").pin(&[0])];
    let mut machine = Machine::boot_on(CPUS, specs, &[]);
    machine.world.quantum.set(1_000 * MS);
    let turn_end = Rc::new(Cell::new(0));
    for id in [at(0, 0), at(1, 0)] {
        let shared = machine.shared(id);
        let beside = Beside {
            world: Rc::clone(&machine.world),
            cpu: machine.cpu.core.system.cpu_table.cpu(CpuId(1)),
            name: machine.shared(at(0, 1)).name_tag,
            sibling: (id == at(0, 0)).then_some(shared),
            turn_end: Rc::clone(&turn_end),
            dispatches: shared,
            seen: 0,
        };
        machine.script(id, [Step::act(|vcpu| beside.step(vcpu))]);
    }
    pass(&mut machine, &[], 500 * MS);
    let before = [ran(&machine, 0), ran(&machine, 1)];
    pass(&mut machine, &[], 2_000 * MS);
    let [two, one] = [0, 1].map(|guest| ran(&machine, guest) - before[usize::from(guest)]);
    // Of the processor where they meet a third is due to a guest that has the other one besides.
    assert!(one * 100 >= (one + two) * 64, "{one} of {}", one + two);
}
