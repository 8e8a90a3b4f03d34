//! The ABI as text, compared with the committed file: a changed offset, number or bit fails until the version is raised
//! and the file is made anew (`COMITY_BLESS=1 cargo test -p pv-abi --test golden`).

#![expect(clippy::unwrap_used, reason = "writing to a String cannot fail, and a test may panic")]

use pv_abi::{board, call, cpuid, demand, event, header, status, table};
use std::fmt::Write;
use std::mem::offset_of;

macro_rules! layout {
    ($out:ident, $type:ty { $($field:ident),* $(,)? }) => {
        writeln!($out, "struct {} {}", stringify!($type), size_of::<$type>()).unwrap();
        $(writeln!($out, "  {:4} {}", offset_of!($type, $field), stringify!($field)).unwrap();)*
    };
}

macro_rules! constants {
    ($out:ident, $($value:expr),* $(,)?) => { $(writeln!($out, "const {} {:#x}", stringify!($value), $value).unwrap();)* };
}

macro_rules! codes {
    ($out:ident, $($type:ty),* $(,)?) => { $(for (code, name) in <$type>::ALL {
        writeln!($out, "code {}::{name} {:#x}", stringify!($type), code.0).unwrap();
    })* };
}

macro_rules! flags {
    ($out:ident, $($type:ty),* $(,)?) => { $(for (name, flag) in <$type as bitflags::Flags>::all().iter_names() {
        writeln!($out, "flag {}::{name} {:#x}", stringify!($type), flag.bits()).unwrap();
    })* };
}

fn describe() -> String {
    let mut out = String::new();
    writeln!(out, "version {}.{}", pv_abi::VERSION.major, pv_abi::VERSION.minor).unwrap();
    layout!(
        out,
        header::Header {
            magic,
            major,
            minor,
            size_bytes,
            row_count,
            row_bytes,
            reserved,
            features,
            generation,
            tsc_khz,
            wall_ns,
            tsc_to_ns_mul
        }
    );
    layout!(
        out,
        demand::VcpuDemand { state, deadline_tsc, request, next_wake_tsc, wait_for, io, slack, critical }
    );
    layout!(
        out,
        demand::GuestDemand {
            memory_wanted_pages,
            memory_minimum_pages,
            memory_reclaimable_pages,
            memory_pressure,
            useful_vcpus,
            gang_mask,
            reserved
        }
    );
    layout!(out, demand::AccountDemand { id, weight, runnable, deadline_tsc, request, reserved });
    layout!(out, status::HotLine { dispatch_seq, flags, slice_end_tsc, armed_until_tsc, reserved });
    layout!(
        out,
        status::Statistics {
            run_ns,
            steal_ns,
            steal_peers_ns,
            steal_cap_ns,
            steal_hypervisor_ns,
            steal_below_ns,
            lag_ns,
            preempted_in_critical,
            exits
        }
    );
    layout!(out, event::EventLine { pending, mask, flush_request, reserved });
    layout!(out, board::CpuLine { waiting, deadline_bucket, pressure, reserved });
    layout!(out, board::GuestLine { demand_bucket, memory_pressure, entitlement, lag_sign, reserved });
    constants!(
        out,
        header::MAGIC,
        cpuid::BASE,
        cpuid::VERSION_LEAF,
        cpuid::TIME_LEAF,
        cpuid::WINDOW_LEAF,
        cpuid::LAST,
        table::Table::DEMAND.0,
        table::Table::STATUS.0,
        table::Table::EVENT.0,
        table::Table::BOARD.0,
        table::Table::CONSOLE.0,
        table::Table::CHANNEL_0.0,
        table::DEMAND_PAGES,
        table::DEMAND_GUEST_ROW,
        table::DEMAND_ACCOUNTS,
        table::MAX_ACCOUNTS,
        table::DEMAND_ROWS,
        table::STATUS_PAGES,
        table::STATUS_HOT,
        table::STATUS_STATISTICS,
        table::EVENT_PAGES,
        table::EVENT_LINES,
        table::CONSOLE_PAGES,
        table::CONSOLE_RING_BYTES,
        event::TIMER,
        event::CONSOLE,
        event::KICK,
        call::PREFIX,
        call::IPI_NMI,
        call::MEMORY_BLOCK_BYTES,
        call::MEMORY_MAX_BLOCKS,
        call::CONSOLE_MAX_BYTES,
        demand::Reason::OTHER.0,
        demand::Reason::LOCK.0,
        demand::Reason::ACKNOWLEDGE.0,
        demand::Reason::RING.0,
    );
    codes!(
        out,
        call::Call,
        call::Code,
        call::Info,
        call::EventOp,
        call::MemoryOp,
        call::ConsoleOp,
        call::Stat,
        call::VcpuState,
        call::Shutdown
    );
    flags!(out, cpuid::Features, demand::DemandFlags, status::StatusFlags);
    out
}

#[test]
fn the_abi_is_what_the_golden_file_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/abi.golden");
    let now = describe();
    if std::env::var_os("COMITY_BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (line, (then, now)) in golden.lines().zip(now.lines()).enumerate() {
        assert_eq!(then, now, "abi.golden:{}: the ABI changed; raise pv_abi::VERSION and bless", line + 1);
    }
    assert_eq!(golden.lines().count(), now.lines().count(), "abi.golden: lines were added or lost");
}
