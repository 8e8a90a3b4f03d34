//! A VMCB as exits leave it, and what becomes of it.
#![expect(unsafe_code, reason = "a VMCB of zeroes")]

use super::decode;
use super::enable::Features;
use super::state::step::{TASK_AVAILABLE, TASK_BUSY};
use super::state::{Maps, SvmVcpu};
use super::vmcb::{CrIntercepts, Instructions, VirtualInterrupt, Vmcb, code, event};
use crate::base::addr::HostPhys;
use crate::base::control::Start;
use crate::guest::registers::{DR6_CLEAR, DR6_STEP};
use crate::guest::registers::{RFLAGS_IF, RFLAGS_RF, RFLAGS_TF};
use crate::guest::seam::{CpuEvents, CpuRegisters, Exit, Instruction, Nmi, VirtualCpu, Window};
use crate::machine::arch::translator::Translator;
use crate::machine::vt::EXCEPTIONS;
use std::boxed::Box;

const RIP: u64 = 0x1000;
const DEBUG: u64 = event::VALID | event::EXCEPTION | 1;
const NMI: u64 = event::VALID | event::NMI | 2;

pub fn vcpu_on(translator: Option<Translator>) -> SvmVcpu {
    // SAFETY: a VMCB is integers only, so all-zero is one.
    let vmcb: &'static mut Vmcb = Box::leak(unsafe { Box::<Vmcb>::new_zeroed().assume_init() });
    let nowhere = HostPhys::new_truncate(0);
    let maps = Maps { io: nowhere, msr: nowhere, features: Features::empty() };
    let mut vcpu = SvmVcpu::new(vmcb, nowhere, maps, nowhere, translator, 1);
    vcpu.reset(Start::Protected { entry: 0x1000, ebx: 0 });
    vcpu
}

fn decode_now(vcpu: &mut SvmVcpu) -> Exit {
    let exit_code = vcpu.vmcb.control.exit_code;
    decode::exit(vcpu, exit_code)
}

/// A vCPU exits; nothing of an event was cut short.
fn exit(vcpu: &mut SvmVcpu, exit_code: u64) -> Exit {
    let control = &mut vcpu.vmcb.control;
    (control.exit_code, control.exit_interrupt_info, control.event_injection) = (exit_code, 0, 0);
    control.interrupt_shadow = 0;
    decode_now(vcpu)
}

/// A step ends as the processor ends it: the instruction is done, and #DB exits.
fn step_ends(vcpu: &mut SvmVcpu, length_bytes: u64, rflags: u64) -> Exit {
    assert_ne!(vcpu.vmcb.save.rflags & RFLAGS_TF, 0, "a step is on");
    vcpu.vmcb.save.rip += length_bytes;
    vcpu.vmcb.save.rflags = rflags;
    vcpu.vmcb.save.dr6 |= DR6_STEP;
    exit(vcpu, code::DEBUG)
}

#[test]
fn what_an_exit_has_cut_short_is_injected_again_unless_its_instruction_runs_again() {
    let page_fault = event::VALID | event::EXCEPTION | event::HAS_ERROR | 14 | 7 << event::ERROR_SHIFT;
    let cases = [
        ("interrupt", event::VALID | event::INTERRUPT | 0x41, true),
        ("NMI", NMI, true),
        ("#DE", event::VALID | event::EXCEPTION, true),
        ("#PF and its error code", page_fault, true),
        ("INT3", event::VALID | event::EXCEPTION | 3, false),
        ("INTO", event::VALID | event::EXCEPTION | 4, false),
        ("INT n", event::VALID | event::SOFTWARE | 0x80, false),
        ("INT3 on QEMU", event::VALID | event::SOFTWARE | 3, false),
        (
            "a virtual interrupt on QEMU, which is still pending",
            event::VALID | event::EXCEPTION | 0x41,
            false,
        ),
        ("nothing", event::INTERRUPT | 0x41, false),
    ];
    for (name, cut_short, again) in cases {
        let mut vcpu = vcpu_on(None);
        vcpu.vmcb.control.exit_code = code::NPF;
        vcpu.vmcb.control.exit_interrupt_info = cut_short;
        assert!(matches!(decode_now(&mut vcpu), Exit::MemoryFault { .. }), "{name}");
        assert_eq!(vcpu.vmcb.control.event_injection, if again { cut_short } else { 0 }, "{name}");
        assert_eq!((vcpu.injects(), vcpu.rip()), (again, RIP), "{name}");
    }
}

#[test]
fn an_nmi_waits_for_the_iret_of_the_one_before() {
    let mut vcpu = vcpu_on(None);
    assert_eq!(vcpu.inject_nmi(), Nmi::Injected);
    assert_eq!(vcpu.vmcb.control.event_injection, NMI);
    assert_eq!(exit(&mut vcpu, code::CPUID), Exit::Cpuid);
    assert_eq!(vcpu.inject_nmi(), Nmi::Blocked, "in its handler");
    assert_eq!(exit(&mut vcpu, code::IRET), Exit::Handled);
    assert_eq!(vcpu.inject_nmi(), Nmi::Blocked, "before the IRET is done");
    assert!(!vcpu.vmcb.control.intercept_instructions.contains(Instructions::IRET));
    assert_eq!(step_ends(&mut vcpu, 0x100, 2 | RFLAGS_IF), Exit::Window);
    assert_eq!(
        (vcpu.vmcb.save.rflags, vcpu.vmcb.save.dr6),
        (2 | RFLAGS_IF, DR6_CLEAR),
        "as IRET has loaded them"
    );
    assert_eq!(vcpu.vmcb.control.event_injection, 0);
    assert_eq!(vcpu.inject_nmi(), Nmi::Injected);
}

#[test]
fn an_nmi_that_is_cut_short_is_in_service() {
    let mut vcpu = vcpu_on(None);
    assert_eq!(vcpu.inject_nmi(), Nmi::Injected);
    vcpu.vmcb.control.event_injection = 0;
    vcpu.vmcb.control.exit_code = code::NPF;
    vcpu.vmcb.control.exit_interrupt_info = NMI;
    let _ = decode_now(&mut vcpu);
    assert_eq!(vcpu.vmcb.control.event_injection, NMI);
    assert_eq!(exit(&mut vcpu, code::INTR), Exit::HostInterrupt);
    assert_eq!(vcpu.inject_nmi(), Nmi::Blocked);
}

#[test]
fn an_iret_that_faults_or_is_interrupted_has_not_ended_its_nmi() {
    for other in [code::INTR, code::NPF, code::FIRST_EXCEPTION + 13] {
        let mut vcpu = vcpu_on(None);
        assert_eq!(vcpu.inject_nmi(), Nmi::Injected);
        assert_eq!(exit(&mut vcpu, code::IRET), Exit::Handled);
        let _ = exit(&mut vcpu, other);
        assert_eq!(vcpu.vmcb.save.rflags, 2, "{other:#x}");
        assert!(vcpu.vmcb.control.intercept_instructions.contains(Instructions::IRET), "{other:#x}");
        vcpu.vmcb.control.event_injection = 0;
        assert_eq!(vcpu.inject_nmi(), Nmi::Blocked, "{other:#x}");
    }
}

/// POPF, IRET and SYSRET load TF, PUSHF stores it, INT n and INT3 clear it, MOV DR has a #DB of its own: nobody steps over what is behind.
#[test]
fn an_nmi_waits_for_the_end_of_a_shadow_and_changes_nothing_meanwhile() {
    for translator in [None, Some(Translator::Threaded), Some(Translator::Counting)] {
        for flags in [2, 2 | RFLAGS_IF, 2 | RFLAGS_TF, 2 | RFLAGS_RF] {
            let mut vcpu = vcpu_on(translator);
            vcpu.vmcb.save.rflags = flags;
            for _ in 0..2 {
                let _ = exit(&mut vcpu, code::INTR);
                vcpu.vmcb.control.interrupt_shadow = 1;
                assert_eq!(vcpu.inject_nmi(), Nmi::Waits);
                let (control, save) = (&vcpu.vmcb.control, &vcpu.vmcb.save);
                assert_eq!((save.rip, save.rflags, save.dr6), (RIP, flags, DR6_CLEAR));
                assert_eq!((control.interrupt_shadow, control.event_injection), (1, 0));
                assert_eq!(control.intercept_exceptions, EXCEPTIONS);
                let opens = flags & RFLAGS_IF != 0 && translator.is_none();
                assert_eq!(vcpu.watches_window(), opens, "{translator:?} {flags:#x}");
            }
            let _ = exit(&mut vcpu, code::INTR);
            assert_eq!(vcpu.inject_nmi(), Nmi::Injected);
        }
    }
}

/// Another processor of the guest's has put another instruction in the place of the one that is stepped over.
#[test]
fn what_a_guest_has_done_elsewhere_survives_the_end_of_a_step() {
    for (before, after, left) in
        [(2 | RFLAGS_TF, 2, 2), (2, 2 | RFLAGS_TF, 2), (2, 2 | RFLAGS_IF, 2 | RFLAGS_IF)]
    {
        let mut vcpu = vcpu_on(Some(Translator::Threaded));
        vcpu.vmcb.save.rflags = before;
        assert_eq!(exit(&mut vcpu, code::TR_WRITE), Exit::Handled);
        (vcpu.vmcb.save.rip, vcpu.vmcb.save.rflags) = (0x5000, after);
        assert_eq!(exit(&mut vcpu, code::INTR), Exit::HostInterrupt);
        assert_eq!((vcpu.vmcb.save.rflags, vcpu.in_shadow()), (left, false));
        assert_eq!(vcpu.vmcb.control.intercept_exceptions, EXCEPTIONS);
    }
}

#[test]
fn a_write_to_cr8_is_watched_on_the_translator_while_a_virtual_interrupt_waits_and_only_then() {
    for translator in [None, Some(Translator::Threaded), Some(Translator::Counting)] {
        let mut vcpu = vcpu_on(translator);
        let watched = |vcpu: &SvmVcpu| vcpu.vmcb.control.intercept_cr.contains(CrIntercepts::WRITE_CR8);
        let waits = |vcpu: &SvmVcpu| vcpu.vmcb.control.virtual_interrupt.contains(VirtualInterrupt::PENDING);
        for window in [Window::Interrupts, Window::Priority(7)] {
            assert!(!watched(&vcpu));
            vcpu.watch_window(window);
            assert_eq!(
                (watched(&vcpu), waits(&vcpu)),
                (translator.is_some(), true),
                "{translator:?} {window:?}"
            );
            vcpu.watch_window(Window::Closed);
        }
        vcpu.vmcb.save.rflags |= RFLAGS_IF;
        vcpu.inject_interrupt(0x41);
        assert_eq!(watched(&vcpu), translator == Some(Translator::Counting), "{translator:?}");
    }
}

#[test]
fn nothing_waits_while_cr8_is_written_and_all_of_it_does_afterwards() {
    for interrupted in [false, true] {
        let mut vcpu = vcpu_on(Some(Translator::Threaded));
        vcpu.watch_window(Window::Interrupts);
        assert_eq!(exit(&mut vcpu, code::WRITE_CR8), Exit::Handled);
        assert!(!vcpu.ready_for_interrupt());
        vcpu.watch_window(Window::Priority(9));
        assert!(!vcpu.vmcb.control.virtual_interrupt.contains(VirtualInterrupt::PENDING));
        let what =
            if interrupted { exit(&mut vcpu, code::INTR) } else { step_ends(&mut vcpu, 3, 2 | RFLAGS_TF) };
        assert_eq!(what, if interrupted { Exit::HostInterrupt } else { Exit::Window });
        assert_eq!(vcpu.rip(), if interrupted { RIP } else { RIP + 3 });
        assert_eq!((vcpu.vmcb.save.rflags, vcpu.vmcb.save.dr6), (2, DR6_CLEAR));
        assert!(vcpu.vmcb.control.virtual_interrupt.contains(VirtualInterrupt::PENDING));
        assert!(vcpu.vmcb.control.intercept_cr.contains(CrIntercepts::WRITE_CR8));
        assert_eq!(vcpu.vmcb.control.intercept_exceptions, EXCEPTIONS);
    }
}

#[test]
fn a_task_register_that_is_not_there_is_refused_on_the_translator() {
    let mut vcpu = vcpu_on(Some(Translator::Counting));
    assert_eq!(vcpu.vmcb.save.tr.attributes, TASK_AVAILABLE);
    assert_eq!(exit(&mut vcpu, code::TR_WRITE), Exit::Handled);
    vcpu.vmcb.save.tr = super::vmcb::Segment::default();
    let _ = step_ends(&mut vcpu, 3, 2 | RFLAGS_TF);
    assert_eq!((vcpu.rip(), vcpu.vmcb.save.tr.attributes), (RIP, TASK_AVAILABLE));
    let refused = event::VALID | event::EXCEPTION | event::HAS_ERROR | 13;
    assert_eq!(vcpu.vmcb.control.event_injection, refused);
    assert_eq!(exit(&mut vcpu, code::TR_WRITE), Exit::Handled);
    vcpu.vmcb.save.tr.selector = 0x28;
    let _ = step_ends(&mut vcpu, 3, 2 | RFLAGS_TF);
    assert_eq!((vcpu.rip(), vcpu.vmcb.save.tr.selector), (RIP + 3, 0x28));
    assert_eq!(vcpu_on(None).vmcb.save.tr.attributes, TASK_BUSY);
}

#[test]
fn a_fault_in_a_step_is_the_guests_with_its_error_code_and_address() {
    let mut vcpu = vcpu_on(Some(Translator::Counting));
    assert_eq!(exit(&mut vcpu, code::TR_WRITE), Exit::Handled);
    vcpu.vmcb.control.exit_info_1 = 5;
    vcpu.vmcb.control.exit_info_2 = 0x7000;
    assert_eq!(exit(&mut vcpu, code::FIRST_EXCEPTION + 14), Exit::Handled);
    let fault = event::VALID | event::EXCEPTION | event::HAS_ERROR | 14 | 5 << event::ERROR_SHIFT;
    assert_eq!(vcpu.vmcb.control.event_injection, fault);
    assert_eq!((vcpu.cr2(), vcpu.rip(), vcpu.vmcb.save.rflags), (0x7000, RIP, 2));
}

#[test]
fn a_guests_own_step_over_a_watched_instruction_is_told_to_it() {
    let mut vcpu = vcpu_on(Some(Translator::Counting));
    vcpu.vmcb.save.rflags |= RFLAGS_TF;
    assert_eq!(exit(&mut vcpu, code::TR_WRITE), Exit::Handled);
    let _ = step_ends(&mut vcpu, 3, 2 | RFLAGS_TF);
    assert_eq!(vcpu.vmcb.control.event_injection, DEBUG);
    assert_eq!((vcpu.vmcb.save.rflags, vcpu.vmcb.save.dr6), (2 | RFLAGS_TF, DR6_CLEAR | DR6_STEP));
}

#[test]
fn an_emulated_instruction_ends_rf_and_a_single_step_follows_it() {
    let mut vcpu = vcpu_on(None);
    vcpu.vmcb.save.rflags |= RFLAGS_RF;
    vcpu.finish(Instruction::Cpuid);
    assert_eq!((vcpu.vmcb.save.rflags, vcpu.injects()), (2, false));
    vcpu.vmcb.save.rflags |= RFLAGS_TF;
    vcpu.finish(Instruction::Cpuid);
    assert_eq!((vcpu.rip(), vcpu.vmcb.control.event_injection), (RIP + 4, DEBUG));
    assert_eq!(vcpu.vmcb.save.dr6, DR6_CLEAR | DR6_STEP);
}

#[test]
fn a_debug_exception_without_a_cause_is_a_steps_where_the_guest_steps() {
    for (dr6, flags, expected) in [
        (DR6_CLEAR, RFLAGS_TF, DR6_CLEAR | DR6_STEP),
        (DR6_CLEAR, 0, DR6_CLEAR),
        (DR6_CLEAR | 1, RFLAGS_TF, DR6_CLEAR | 1),
        (DR6_CLEAR | DR6_STEP, RFLAGS_TF, DR6_CLEAR | DR6_STEP),
    ] {
        let mut vcpu = vcpu_on(None);
        (vcpu.vmcb.save.dr6, vcpu.vmcb.save.rflags) = (dr6, 2 | flags);
        assert_eq!(exit(&mut vcpu, code::DEBUG), Exit::Exception);
        assert_eq!(vcpu.vmcb.save.dr6, expected, "dr6={dr6:#x} flags={flags:#x}");
    }
}

#[test]
fn int1_is_done_and_its_debug_exception_is_for_no_step() {
    let mut vcpu = vcpu_on(None);
    vcpu.vmcb.save.rflags |= RFLAGS_TF;
    assert_eq!(exit(&mut vcpu, code::ICEBP), Exit::Exception);
    assert_eq!((vcpu.rip(), vcpu.vmcb.save.dr6), (RIP + 1, DR6_CLEAR));
    assert_eq!(vcpu.vmcb.control.event_injection, DEBUG);
}

#[test]
fn a_virtual_interrupt_that_was_not_taken_is_not_forced_on_a_guest_that_masks_it() {
    for (flags, becomes_event) in [(RFLAGS_IF, true), (0, false)] {
        let mut vcpu = vcpu_on(Some(Translator::Counting));
        vcpu.vmcb.save.rflags |= RFLAGS_IF;
        vcpu.inject_interrupt(0x41);
        vcpu.vmcb.save.rflags = 2 | flags;
        vcpu.watch_window(Window::Interrupts);
        let injected = event::VALID | event::INTERRUPT | 0x41;
        assert_eq!(vcpu.vmcb.control.event_injection, if becomes_event { injected } else { 0 });
        assert_eq!(vcpu.watches_window(), becomes_event);
        assert!(vcpu.vmcb.control.virtual_interrupt.contains(VirtualInterrupt::PENDING));
        assert_eq!(vcpu.inject_nmi(), Nmi::Waits, "it is taken first");
    }
}
