//! The tables that a cooperative guest shares with the hypervisor: their places in the window, and their rows.
#![expect(unsafe_code, reason = "places tables in the window and turns their rows into references")]

use super::line::Line;
use super::{call, percpu, platform};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use pv_abi::call::Code;
use pv_abi::cpuid::Features;
use pv_abi::table::{self, Table};
use pv_abi::{MAX_VCPUS, PAGE_BYTES, header};
use ring_buffers::Region;

/// Offset of each table from the start of the window, in pages.
const DEMAND_AT: u64 = 0;
const STATUS_AT: u64 = DEMAND_AT + table::DEMAND_PAGES as u64;
const EVENT_AT: u64 = STATUS_AT + table::STATUS_PAGES as u64;
const CONSOLE_AT: u64 = EVENT_AT + table::EVENT_PAGES as u64;
/// First page of the window behind the tables.
pub(crate) const FREE_AT: u64 = CONSOLE_AT + table::CONSOLE_PAGES as u64;

/// TSC rate from the status table's header: kHz, and nanoseconds per tick as a 32.32 fixed-point number.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub khz: u64,
    pub mul: u64,
}

/// Address of the window once the tables are mapped; 0 before.
static WINDOW: AtomicU64 = AtomicU64::new(0);

/// Maps the demand, status and event tables at the start of the window, switches every processor to its rows, and
/// returns the TSC rate. If the hypervisor refuses one table, no processor uses any.
pub(crate) fn place(window: u64, pages: u64) -> Result<Rate, (Table, Code)> {
    let page = |n: u64| window + n * PAGE_BYTES as u64;
    let fits =
        pages >= FREE_AT && window.checked_add(pages * PAGE_BYTES as u64).is_some_and(|end| end <= 1 << 32);
    if !fits || !window.is_multiple_of(PAGE_BYTES as u64) {
        return Err((Table::DEMAND, Code::BAD_ADDRESS));
    }
    for (table, at) in [(Table::DEMAND, DEMAND_AT), (Table::STATUS, STATUS_AT), (Table::EVENT, EVENT_AT)] {
        // SAFETY: the page lies in the window, whose first pages hold these tables only.
        let code = unsafe { call::map(table, page(at)) };
        if code != Code::OK {
            return Err((table, code));
        }
    }
    // SAFETY: MAP put the tables there, below 4 GiB, where memory is mapped at its own address, and they stay until the
    // guest ends. This kernel only loads from status rows. Every row is aligned to 64 bytes.
    unsafe {
        for index in 0..MAX_VCPUS {
            let row = (index * size_of::<Line>()) as u64;
            let demand = Line::at(page(DEMAND_AT) + table::DEMAND_ROWS as u64 + row);
            let status = Line::at(page(STATUS_AT) + table::STATUS_HOT as u64 + row);
            let event = Line::at(page(EVENT_AT) + table::EVENT_LINES as u64 + row);
            if let Some(cpu) = percpu::of(index) {
                cpu.share(demand, status, event);
            }
        }
        WINDOW.store(window, Ordering::Relaxed);
        let header = Line::at(page(STATUS_AT));
        let word = |offset: usize| header.0[offset / 8].load(Ordering::Relaxed);
        let khz = word(core::mem::offset_of!(header::Header, tsc_khz));
        Ok(Rate { khz, mul: word(core::mem::offset_of!(header::Header, tsc_to_ns_mul)) })
    }
}

/// Maps the console's table, once, and returns the ring to the hypervisor. Returns `None` if the hypervisor offers
/// none.
pub(crate) fn console() -> Option<Region> {
    let window = WINDOW.load(Ordering::Relaxed);
    let offered = platform::features().contains(Features::CONSOLE_RING);
    if window == 0 || !offered {
        return None;
    }
    let at = window + CONSOLE_AT * PAGE_BYTES as u64;
    // SAFETY: the page lies in the window, behind the other tables.
    if unsafe { call::map(Table::CONSOLE, at) } != Code::OK {
        return None;
    }
    let first = NonNull::new(core::ptr::with_exposed_provenance_mut(usize::try_from(at).ok()?))?;
    // SAFETY: the table stays mapped while this kernel runs, and only this region and the hypervisor access it.
    Some(unsafe { Region::new(first, table::CONSOLE_RING_BYTES / 8) })
}
