//! Registration of the vCPUs of a cooperative guest; the first vCPU also maps the tables.

use crate::arch::tables::{self, Rate};
use crate::call::{self, Code, Info};
use crate::{demand, event, interrupt, platform};
use core::fmt;

/// A call that the hypervisor refused. The guest continues with private lines: everything works, but the hypervisor
/// learns nothing from it.
pub(crate) struct Refusal {
    call: &'static str,
    code: Code,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused, code {}", self.call, self.code.0)
    }
}

/// Registers the first vCPU of a cooperative guest, maps the tables and returns the TSC rate. Does nothing in other
/// modes.
pub(crate) fn start() -> Result<Option<Rate>, Refusal> {
    if !platform::is_cooperative() {
        return Ok(None);
    }
    event::start();
    let cookie = register()?;
    let rate = place_tables()?;
    demand::begin(cookie);
    Ok(Some(rate))
}

/// Registers another vCPU, after the first has mapped the tables.
pub(crate) fn start_local() -> Result<(), Refusal> {
    if platform::is_cooperative() {
        demand::begin(register()?);
    }
    Ok(())
}

fn register() -> Result<u16, Refusal> {
    call::register(interrupt::EVENT).map_err(|code| Refusal { call: "REGISTER", code })
}

fn place_tables() -> Result<Rate, Refusal> {
    let info = |item| call::info(item).map_err(|code| Refusal { call: "INFO", code });
    let (window, pages) = (info(Info::WINDOW_BASE)?, info(Info::WINDOW_PAGES)?);
    tables::place(window, pages).map_err(|(_, code)| Refusal { call: "MAP", code })
}
