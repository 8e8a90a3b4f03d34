//! A whole machine for host tests: guests with scripts, made and booted as the real ones are.
//!
//! The time-stamp counter runs at 1 GHz: a tick is a nanosecond.
#![expect(clippy::panic, reason = "a test's mistake ends the test")]

use super::world::Stuck;
use super::{Scripted, ScriptedHardware, ScriptedVcpu, Spec, Step, TestRam, World, kernel};
use crate::base::addr::HostPhys;
use crate::base::id::{CpuId, GuestId, VcpuId, VcpuIndex};
use crate::base::time::{Frequency, Tsc};
use crate::exit::cpu::CpuContext;
use crate::guest::build::{self, Parts};
use crate::guest::cpuid;
use crate::guest::guest::Guest;
use crate::guest::parking::Parking;
use crate::guest::seam::{CpuRegisters, Direction, Exit, PortAccess, Reg};
use crate::guest::system::System;
use crate::guest::vcpu::Vcpu;
use crate::guest::virtio_bus;
use crate::image::load::Image;
use crate::image::manifest::ChannelConfig;
use crate::policy::presence::Life;
use crate::policy::trace::Record;
use crate::policy::vcpu_shared::{SharedFrames, Tables, VcpuShared};
use crate::run::Cpu;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pv_abi::call::{Call, Code};
use pv_abi::cpuid::CallInstruction;
use pv_abi::demand;
use pv_abi::table::{CONSOLE_PAGES, DEMAND_PAGES, EVENT_PAGES, STATUS_PAGES};

/// Pages taken for guests, from here on; no frame is ever given out twice.
const FIRST_FRAME: u64 = 1 << 32;
/// Unix time in ns when the counter was zero: 2026-01-01.
const WALL_NS: u64 = 1_767_225_600_000_000_000;
/// Times a script's end is waited for, in turns and sleeps, before the test has run away.
const MAX_ROUNDS: u32 = 1_000_000;

/// A vCPU of a guest, both counted from 0.
pub const fn at(guest: u16, vcpu: u8) -> VcpuId {
    VcpuId { guest: GuestId(guest), index: VcpuIndex(vcpu) }
}

/// One processor.
type ScriptedCpu = Cpu<Scripted>;

/// A machine with its guests.
pub struct Machine {
    /// The first processor.
    pub cpu: ScriptedCpu,
    /// The others. Processors take turns: each does one turn or one sleep at a time.
    pub others: Vec<ScriptedCpu>,
    /// Clock, timers and lines.
    pub world: Rc<World>,
    parking: &'static Parking<Scripted>,
    /// The vCPU that a test took out of its parking space to look at.
    inspected: Option<Box<Vcpu<Scripted>>>,
}

/// What is on every disk.
const DISK: &[u8] = &[0xd1; 64 << 10];

impl Machine {
    /// A machine whose guests are booted: each one's first vCPU is about to run.
    pub fn boot(specs: impl IntoIterator<Item = Spec>) -> Self {
        Self::boot_on(1, specs, &[])
    }

    /// The same, with channels.
    pub fn boot_with_channels(specs: impl IntoIterator<Item = Spec>, channels: &[ChannelConfig]) -> Self {
        Self::boot_on(1, specs, channels)
    }

    /// The same, with somebody at a terminal of the first guest.
    pub fn boot_at_terminal(specs: impl IntoIterator<Item = Spec>) -> Self {
        Self::boot_with(1, specs, &[], |system| system.has_terminal = true)
    }

    /// A machine of so many processors.
    pub fn boot_on(cpus: u8, specs: impl IntoIterator<Item = Spec>, channels: &[ChannelConfig]) -> Self {
        Self::boot_with(cpus, specs, channels, |_| ())
    }

    fn boot_with(
        cpus: u8,
        specs: impl IntoIterator<Item = Spec>,
        channels: &[ChannelConfig],
        set: impl FnOnce(&mut System<TestRam>),
    ) -> Self {
        let world = Rc::new(World::new(cpus));
        world.advance(1_000_000); // nothing starts at zero
        let tsc = frequency(1_000_000);
        let facts = cpuid::Facts { machine: everything, tsc, apic_bus: tsc, call: CallInstruction::VMMCALL };
        let mut system = System::new(cpus, tsc, WALL_NS);
        let mut frames = Frames(FIRST_FRAME);
        let pages: Vec<_> = channels.iter().map(|channel| frames.take(usize::from(channel.pages))).collect();
        let image: &'static [u8] = kernel::image().leak();
        let mut vcpus = Vec::new();
        let configs: Vec<_> = specs.into_iter().map(|Spec(config)| config).collect();
        system.networks = virtio_bus::networks(&configs);
        for (config, id) in configs.into_iter().zip((0..).map(GuestId)) {
            let Ok(devices) = virtio_bus::Bus::new(id, &config.devices, DISK, &system.networks) else {
                panic!("a bad disk")
            };
            let parts = Parts {
                ram: TestRam::new(u64::from(config.memory_mib) << 20, u64::from(config.memory_max_mib) << 20),
                config,
                tables: frames.tables(),
                virtio: devices,
                channels: build::channel_ends(channels, &pages, id),
                usable_tsc: true,
            };
            let Ok(guest) = build::guest(&mut system, parts) else { panic!("too many guests") };
            for shared in &guest.vcpus {
                vcpus.push(build::vcpu(ScriptedVcpu::new(shared.slot), shared, guest, &facts));
            }
            system.images.push(Image { kernel: image, initrd: None });
        }
        set(&mut system);
        let system: &'static System<TestRam> = Box::leak(Box::new(system));
        let parking: &'static Parking<_> = Box::leak(Box::new(Parking::new(vcpus)));
        let new_cpu = |cpu| {
            let hardware = ScriptedHardware::new(cpu, Rc::clone(&world));
            Cpu::new(Scripted::new(cpu, Rc::clone(&world)), CpuContext::new(cpu, system, hardware), parking)
        };
        let mut cpu = new_cpu(CpuId(0));
        let others = (1..u16::from(cpus)).map(CpuId).map(new_cpu).collect();
        if let Err(refused) = cpu.boot_guests() {
            panic!("{refused:?}");
        }
        Self { cpu, others, world, parking, inspected: None }
    }

    /// A guest.
    pub fn guest(&self, id: u16) -> &'static Guest<TestRam> {
        let Some(guest) = self.cpu.core.system.guest(GuestId(id)) else { panic!("no guest {id}") };
        guest
    }

    /// What everybody may know of a vCPU.
    pub fn shared(&self, id: VcpuId) -> &'static VcpuShared {
        let Some(shared) = self.guest(id.guest.0).vcpu(u64::from(id.index.0)) else { panic!("no {id:?}") };
        shared
    }

    /// A vCPU, wherever it is.
    pub fn vcpu(&mut self, id: VcpuId) -> &mut Vcpu<Scripted> {
        let shared = self.shared(id);
        self.put_back();
        self.inspected = self.parking.take_stopped(shared).or_else(|| self.parking.pick_up(shared));
        let mut places = core::iter::once(&mut self.cpu).chain(&mut self.others);
        let held = self.inspected.as_deref_mut().or_else(|| places.find_map(|cpu| cpu.vcpu_mut(shared.slot)));
        let Some(vcpu) = held else { panic!("no {id:?}") };
        vcpu
    }

    /// A vCPU that a test looked at lies in its parking space again before anything happens.
    fn put_back(&mut self) {
        if let Some(vcpu) = self.inspected.take() {
            match vcpu.shared.life() {
                Life::Stopped => self.parking.retire(vcpu),
                Life::Runnable | Life::Blocked => self.parking.leave(vcpu),
            }
        }
    }

    /// Its architectural state.
    pub fn state(&mut self, id: VcpuId) -> &mut ScriptedVcpu {
        &mut self.vcpu(id).state
    }

    /// Adds to a vCPU's script.
    pub fn script(&mut self, id: VcpuId, steps: impl IntoIterator<Item = Step>) {
        self.state(id).script.extend(steps);
    }

    /// One turn or one sleep of each processor; false when every guest has ended.
    pub fn step(&mut self) -> bool {
        self.put_back();
        let mut alive = self.cpu.step();
        for cpu in &mut self.others {
            alive = cpu.step();
        }
        alive
    }

    /// Runs until every script is over and nothing more happens by itself, or until every guest has ended.
    pub fn go(&mut self) -> Option<Stuck> {
        for _ in 0..MAX_ROUNDS {
            if !self.step() {
                return None;
            }
            if let Some(stuck) = self.world.take_stuck() {
                return Some(stuck);
            }
        }
        panic!("still busy after {MAX_ROUNDS} turns and sleeps");
    }

    /// Runs until `moment`: nobody's script but that of the machine's time.
    pub fn go_to(&mut self, moment: Tsc) -> Option<Stuck> {
        while self.world.now() < moment {
            if !self.step() {
                return None;
            }
            if let Some(stuck) = self.world.take_stuck() {
                return Some(stuck);
            }
        }
        None
    }

    /// Runs until a vCPU's script is over, and what its last step led to is done. The others spin when theirs are.
    pub fn finish(&mut self, id: VcpuId) {
        let slot = self.shared(id).slot;
        self.world.awaited.set(Some(slot));
        for _ in 0..MAX_ROUNDS {
            if self.state(id).script.is_empty() {
                self.world.awaited.set(None);
                return;
            }
            if !self.step() && !self.state(id).script.is_empty() {
                panic!("all guests have ended before {id:?} has done {:?}", self.state(id).script);
            }
            if let Some(stuck) = self.world.take_stuck() {
                panic!("{stuck:?} before {id:?} has done {:?}", self.state(id).script);
            }
        }
        panic!("{id:?} does not get to {:?}", self.state(id).script);
    }

    /// Adds to a vCPU's script and runs to its end.
    pub fn run(&mut self, id: VcpuId, steps: impl IntoIterator<Item = Step>) {
        self.script(id, steps);
        self.finish(id);
    }

    /// Lets a vCPU compute for `ticks`, however long it takes it to get them.
    pub fn compute(&mut self, id: VcpuId, ticks: u64) {
        self.run(id, [Step::Run(ticks)]);
    }

    /// Lets a vCPU exit once, and go on.
    pub fn exit(&mut self, id: VcpuId, exit: Exit) {
        self.run(id, [Step::Exit(exit)]);
    }

    /// Lets a vCPU call; arguments in the order RDI RSI RDX R10 R8 R9.
    pub fn call(&mut self, id: VcpuId, call: Call, arguments: &[u64]) -> (Code, u64) {
        self.run(id, call_steps(call, arguments));
        let state = self.state(id);
        (Code(state.reg(Reg::Rax)), state.reg(Reg::Rdx))
    }

    /// Lets a vCPU execute CPUID.
    pub fn cpuid(&mut self, id: VcpuId, leaf: u32, subleaf: u32) -> [u64; 4] {
        let state = self.state(id);
        state.set_reg(Reg::Rax, u64::from(leaf));
        state.set_reg(Reg::Rcx, u64::from(subleaf));
        self.exit(id, Exit::Cpuid);
        [Reg::Rax, Reg::Rbx, Reg::Rcx, Reg::Rdx].map(|reg| self.state(id).reg(reg))
    }

    /// Lets a vCPU read an MSR.
    pub fn read_msr(&mut self, id: VcpuId, index: u32) -> u64 {
        self.state(id).set_reg(Reg::Rcx, u64::from(index));
        self.exit(id, Exit::ReadMsr);
        self.state(id).reg(Reg::Rdx) << 32 | self.state(id).reg(Reg::Rax)
    }

    /// Lets a vCPU write an MSR.
    pub fn write_msr(&mut self, id: VcpuId, index: u32, value: u64) {
        self.run(id, write_msr_steps(index, value));
    }

    /// Lets a vCPU execute OUT.
    pub fn port_out(&mut self, id: VcpuId, port: u16, size_bytes: u8, value: u32) {
        self.state(id).set_reg(Reg::Rax, u64::from(value));
        self.exit(id, Exit::Port(PortAccess { port, size_bytes, direction: Direction::Out }));
    }

    /// Lets a vCPU execute IN; returns RAX.
    pub fn port_in(&mut self, id: VcpuId, port: u16, size_bytes: u8) -> u64 {
        self.exit(id, Exit::Port(PortAccess { port, size_bytes, direction: Direction::In }));
        self.state(id).reg(Reg::Rax)
    }

    /// Registers a vCPU as its kernel would: REGISTER, then the cookie into its row. Returns the cookie.
    pub fn register(&mut self, id: VcpuId, vector: u8) -> u16 {
        let (code, cookie) = self.call(id, Call::REGISTER, &[0, u64::from(vector)]);
        let Some(cookie) = u16::try_from(cookie).ok().filter(|_| code == Code::OK) else {
            panic!("REGISTER answers {code:?}");
        };
        self.set_demand(id, demand::word::STATE, u64::from(cookie) << 48);
        cookie
    }

    /// Writes a word of a vCPU's demand row, as its kernel would.
    pub fn set_demand(&self, id: VcpuId, word: usize, value: u64) {
        self.shared(id).demand[word].store(value, SeqCst);
    }

    /// Reads a word of a vCPU's status row.
    pub fn status(&self, id: VcpuId, word: usize) -> u64 {
        self.shared(id).status[word].load(SeqCst)
    }

    /// Sets bits of a vCPU's event word, as another vCPU of its guest would, without a KICK.
    pub fn set_events(&self, id: VcpuId, bits: u64) {
        self.shared(id).event[pv_abi::event::word::PENDING].fetch_or(bits, SeqCst);
    }

    /// People type.
    pub fn type_in(&self, bytes: &[u8]) {
        self.world.input.borrow_mut().extend(bytes);
        self.world.interrupt();
    }

    /// The records written so far.
    pub fn records(&mut self) -> Vec<Record> {
        self.cpu.core.write_records();
        let mut bytes = self.world.telemetry.borrow().clone();
        let frames = bytes.split_mut(|byte| *byte == 0).filter(|frame| !frame.is_empty());
        let decode = |frame: &mut [u8]| match postcard::from_bytes_cobs(frame) {
            Ok(record) => record,
            Err(error) => panic!("telemetry: {error}"),
        };
        frames.map(decode).collect()
    }
}

/// The steps of a call; arguments in the order RDI RSI RDX R10 R8 R9.
pub fn call_steps(call: Call, arguments: &[u64]) -> [Step; 2] {
    let order = [Reg::Rdi, Reg::Rsi, Reg::Rdx, Reg::R10, Reg::R8, Reg::R9];
    let arguments: Vec<_> = order.into_iter().zip(arguments.iter().copied()).collect();
    let set = Step::act(move |vcpu| {
        vcpu.set_reg(Reg::Rax, call.0);
        for (reg, value) in arguments {
            vcpu.set_reg(reg, value);
        }
    });
    [set, Step::Exit(Exit::Call)]
}

/// The steps of WRMSR.
pub fn write_msr_steps(index: u32, value: u64) -> [Step; 2] {
    let set = Step::act(move |vcpu| {
        vcpu.set_reg(Reg::Rcx, u64::from(index));
        vcpu.set_reg(Reg::Rax, value & 0xffff_ffff);
        vcpu.set_reg(Reg::Rdx, value >> 32);
    });
    [set, Step::Exit(Exit::WriteMsr)]
}

/// A processor that announces everything, a hypervisor below included: what guests see of it was let through.
const fn everything(_leaf: u32, _subleaf: u32) -> cpuid::Leaf {
    [u32::MAX; 4]
}

const fn frequency(khz: u64) -> Frequency {
    match Frequency::from_khz(khz) {
        Some(frequency) => frequency,
        None => panic!("no frequency"),
    }
}

/// Frames of the hypervisor's own, each with an address that no other has.
struct Frames(u64);

impl Frames {
    fn take(&mut self, pages: usize) -> SharedFrames {
        let start = HostPhys::new_truncate(self.0);
        self.0 += pages as u64 * 4096;
        let words: Vec<_> = (0..pages * 512).map(|_| AtomicU64::new(0)).collect();
        SharedFrames { start, words: Box::leak(words.into_boxed_slice()) }
    }

    fn tables(&mut self) -> Tables {
        Tables {
            demand: self.take(DEMAND_PAGES),
            status: self.take(STATUS_PAGES),
            event: self.take(EVENT_PAGES),
            console: self.take(CONSOLE_PAGES),
        }
    }
}
