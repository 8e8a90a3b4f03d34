//! Garbage in everything that is shared: the event line, the console's rings, the pages of channels.

use crate::check::Check;
use crate::raw;
use guest_kernel_shim::call::{self, Code, Info};
use guest_kernel_shim::pv_abi::PAGE_BYTES;
use guest_kernel_shim::pv_abi::call::{Call, ConsoleOp};
use guest_kernel_shim::pv_abi::table::{self, Table};
use guest_kernel_shim::{clock, console, interrupt, platform, timer};

const PAGE: u64 = PAGE_BYTES as u64;
/// Pages from the end of the window where tables are placed for this.
const ROOM_PAGES: u64 = 96;
const ROUNDS: u64 = 64;

/// Corrupts the console's rings and each channel, makes the hypervisor look, and checks that it goes on.
pub fn corruption(check: &mut Check) {
    if !platform::is_cooperative() {
        check.skip("no shared pages in this mode");
        return;
    }
    events(check);
    let base = call::info(Info::WINDOW_BASE).unwrap_or(0);
    let pages = call::info(Info::WINDOW_PAGES).unwrap_or(0);
    let room = base + pages.saturating_sub(ROOM_PAGES) * PAGE;
    console::flush();
    garbage(check, Table::CONSOLE, room, table::CONSOLE_PAGES as u64);
    for channel in 0..u8::try_from(call::info(Info::CHANNELS).unwrap_or(0)).unwrap_or(0) {
        if let Ok((pages, _)) = call::query(channel) {
            garbage(check, Table::channel(channel), room + 2 * PAGE, u64::from(pages));
        }
    }
    console::start_over();
    check.holds(format_args!("the guest is still answered"), call::info(Info::VERSION).is_ok());
}

/// Every event at once, masked and not.
fn events(check: &mut Check) {
    interrupt::without(|| {
        for event in 0..64 {
            guest_kernel_shim::event::set_own(event);
        }
        call::block(u64::MAX);
        call::kick(0);
        guest_kernel_shim::event::take();
    });
    let begin_ns = clock::now_ns();
    timer::sleep_ns(1_000_000);
    check.holds(format_args!("a timer works after 64 events"), clock::now_ns() - begin_ns >= 1_000_000);
}

/// Writes garbage over a table that both sides use, and makes the hypervisor look at it each time.
fn garbage(check: &mut Check, table: Table, at: u64, pages: u64) {
    let code = raw::named(Call::MAP, [table.0, at, 0, 0]).map_or(u64::MAX, |(code, ..)| code);
    check.one_of(format_args!("MAP of table {}", table.0), code, &[Code::OK.0, Code::NOT_THERE.0]);
    if code != Code::OK.0 {
        return;
    }
    let mut random = clock::ticks() | 1;
    for round in 0..ROUNDS {
        for line in 0..pages * PAGE / 64 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(round);
            let value = if random >> 62 == 0 { u64::MAX } else { random };
            if raw::store(at + line * 64, value).is_err() {
                check.holds(format_args!("table {} is writable", table.0), false);
                return;
            }
        }
        let flush = raw::named(Call::CONSOLE, [ConsoleOp::FLUSH.0, 0, 0, 0]);
        check.holds(format_args!("FLUSH is answered"), flush.is_ok());
        if table != Table::CONSOLE {
            call::ring(u8::try_from(table.0.saturating_sub(Table::CHANNEL_0.0)).unwrap_or(0));
        }
    }
    for word in 0..pages * PAGE / 8 {
        if raw::store(at + word * 8, 0).is_err() {
            break;
        }
    }
}
