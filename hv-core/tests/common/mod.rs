//! What the dispatch tests have in common: a picture of everything a refused call must leave alone.
#![allow(dead_code, reason = "each test file uses its own part")]

use hv_core::base::addr::HostPhys;
use hv_core::base::id::VcpuId;
use hv_core::base::time::Tsc;
use hv_core::guest::seam::{Reg, Window};
use hv_core::guest::vcpu::Rest;
use hv_core::policy::presence::Life;
use hv_core::policy::sched::Slot;
use hv_core::testkit::{Machine, Seen, at};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

/// One millisecond, in ticks of the scripted machine.
pub const MS: u64 = 1_000_000;
/// One microsecond.
pub const US: u64 = 1_000;

/// The first vCPU of the first guest, and others.
pub const A: VcpuId = at(0, 0);
pub const A1: VcpuId = at(0, 1);
pub const A2: VcpuId = at(0, 2);
pub const B: VcpuId = at(1, 0);

/// All general registers but RAX and RDX, which calls answer in.
const KEPT: [Reg; 7] = [Reg::Rbx, Reg::Rcx, Reg::Rsi, Reg::Rdi, Reg::R8, Reg::R9, Reg::R10];

/// A vCPU in a [`Picture`].
#[derive(Debug, PartialEq, Eq)]
struct Face {
    registers: [u64; 7],
    life: Life,
    rest: Rest,
    event_vector: u8,
    cookie: u32,
    attention: u64,
    posted: Vec<u8>,
    seen: Vec<(Tsc, Seen)>,
    window: Window,
    wake: (u64, u64, Tsc),
}

/// Everything that a refused call must leave alone. The caller's RIP moves on.
#[derive(Debug, PartialEq, Eq)]
pub struct Picture {
    vcpus: Vec<Face>,
    words: BTreeMap<(u64, usize), u64>,
    windows: Vec<BTreeMap<u64, (HostPhys, bool)>>,
    bound: Vec<u32>,
    current: Option<Slot>,
    waiting: u32,
    timers: Tsc,
    console: String,
    input: Vec<usize>,
    now: Tsc,
}

impl Picture {
    /// Takes one.
    pub fn of(machine: &mut Machine) -> Self {
        let guests = machine.cpu.core.system.guests.clone();
        let ids: Vec<_> = guests.iter().flat_map(|guest| guest.vcpus.iter().map(|vcpu| vcpu.id)).collect();
        let vcpus = ids.into_iter().map(|id| face(machine, id)).collect();
        let mut words = BTreeMap::new();
        for guest in &guests {
            let tables = &guest.tables;
            let channels = guest.channels.iter().map(|end| end.frames);
            for frames in
                [tables.demand, tables.status, tables.event, tables.console].into_iter().chain(channels)
            {
                let loaded = frames.words.iter().map(|word| word.load(SeqCst)).enumerate();
                words.extend(
                    loaded.filter(|(_, word)| *word != 0).map(|(n, word)| ((frames.start.raw(), n), word)),
                );
            }
        }
        let core = &machine.cpu.core;
        Self {
            vcpus,
            words,
            windows: guests.iter().map(|guest| guest.ram.window()).collect(),
            bound: guests
                .iter()
                .flat_map(|guest| guest.channels.iter().map(|end| end.bound.load(SeqCst)))
                .collect(),
            current: core.queue.current(),
            waiting: core.queue.waiting(),
            timers: core.timers.first(),
            console: machine.world.console(),
            input: guests.iter().map(|guest| guest.console.input.lock().len()).collect(),
            now: machine.world.now(),
        }
    }
}

fn face(machine: &mut Machine, id: VcpuId) -> Face {
    use hv_core::guest::seam::CpuRegisters;
    let shared = machine.shared(id);
    let timer = machine.cpu.core.timers.get(shared.slot);
    let vcpu = machine.vcpu(id);
    Face {
        registers: KEPT.map(|reg| vcpu.state.reg(reg)),
        life: shared.life(),
        rest: vcpu.rest,
        event_vector: vcpu.event_vector,
        cookie: shared.cookie(),
        attention: shared.attention().bits(),
        posted: (0..=u8::MAX).filter(|vector| shared.posted.has(*vector)).collect(),
        seen: vcpu.state.seen.clone(),
        window: vcpu.state.window(),
        wake: (vcpu.seen_wake, vcpu.fired_wake, timer),
    }
}
