//! State shared by all processors.

use super::selftest::Selftest;
use hv_core::base::id::CpuId;
use hv_core::exit::cpu::CpuContext;
use hv_core::guest::parking::Parking;
use hv_core::guest::system::System;
use hv_core::machine::arch::apic::LocalApic;
use hv_core::machine::memory::Ram;
use hv_core::machine::pc::{Pc, PcOf};
use hv_core::machine::serial_log::SerialLog;
use hv_core::machine::vt::Vendor;
use hv_core::policy::calibrate::Found;
use hv_core::run::Cpu;

/// State shared by all processors, independent of the vendor.
#[derive(Clone, Copy)]
pub struct Common {
    /// The guests.
    pub system: &'static System<Ram>,
    /// The serial lines.
    pub log: &'static SerialLog,
    /// Local APIC ids, by processor.
    pub apic_ids: &'static [u32],
    /// Rates of the processors' clocks.
    pub clocks: Found,
    /// The deliberate failure that the command line asks for.
    pub selftest: Option<Selftest>,
}

impl Common {
    /// Fails deliberately if the command line asks for it and this is the last processor.
    pub fn fail_if_asked(&self, cpu: CpuId) {
        if let Some(selftest) = self.selftest
            && usize::from(cpu.0) + 1 == self.apic_ids.len()
        {
            selftest.fail(self.clocks.tsc)
        }
    }
}

/// State shared by all processors, with the part that depends on the vendor.
#[derive(Clone, Copy)]
pub struct Shared<V: Vendor> {
    /// The part that does not depend on the vendor.
    pub common: Common,
    /// The vCPUs that no processor holds.
    pub parking: &'static Parking<PcOf<V>>,
}

impl<V: Vendor> Shared<V> {
    /// Makes the scheduling state of a processor that joins.
    pub fn join(&self, cpu: CpuId, apic: LocalApic, processor: V::Processor) -> Cpu<PcOf<V>> {
        let Common { system, log, apic_ids, clocks, .. } = self.common;
        Cpu::new(processor, CpuContext::new(cpu, system, Pc::new(apic, clocks, log, apic_ids)), self.parking)
    }
}
