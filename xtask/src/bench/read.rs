//! Figures from what a machine left: the guests' lines and the marks' counters.

pub mod batch;
mod cost;
pub mod idle;
pub mod linux;
pub mod locks;
pub mod micro;
pub mod pipe;
pub mod server;
pub mod tick;

use super::figure::{Figure, Mode};
use super::says::Said;
use super::window::{BEGIN, END, Window};
use hv_format::record::Record;
use std::time::Duration;

/// What a machine left.
pub struct Evidence<'a> {
    /// What the figures' names begin with.
    pub prefix: &'a str,
    /// How its guests ran.
    pub mode: Mode,
    /// What each guest said, by id.
    pub said: &'a [Said],
    /// COM2; empty for a bare machine.
    pub records: &'a [Record],
    /// From the emulator's start to its end, by the host's clock.
    pub wall: Duration,
}

/// Reads one machine's figures, or says what is missing.
pub type Reader = fn(&Evidence<'_>) -> Result<Vec<Figure>, String>;

impl Evidence<'_> {
    /// What the guest that measures said: the first one.
    pub fn first(&self) -> Result<&Said, String> {
        self.said.first().ok_or_else(|| "no guest".to_owned())
    }

    /// A figure's whole name.
    pub fn name(&self, what: &str) -> String {
        format!("{}.{what}", self.prefix)
    }

    /// The window of a workload, which the first guest marked; none on a bare machine. The others must have been there to
    /// its end.
    pub fn window(&self) -> Result<Option<Window>, String> {
        if self.mode == Mode::Bare {
            return Ok(None);
        }
        let window = self.window_of_first()?;
        let gone = self.records.iter().any(|record| match record {
            Record::Ended { tsc, .. } => *tsc < window.end_tsc,
            Record::Lost { .. } => true,
            Record::Boot { .. } | Record::Clock { .. } | Record::Mark { .. } => false,
        });
        if gone {
            Err("a guest ended inside the window, or telemetry was lost".into())
        } else {
            Ok(Some(window))
        }
    }

    /// The window of the first guest, whoever else ended in it.
    pub fn window_of_first(&self) -> Result<Window, String> {
        Window::find(self.records, 0, (BEGIN, None), (END, None))
            .ok_or_else(|| "no marks in the telemetry".into())
    }

    /// The time-stamp counter's frequency, which is the host's where instructions are not counted.
    pub fn tsc_khz(&self) -> Result<u64, String> {
        let khz = self.records.iter().find_map(|record| match record {
            Record::Boot { tsc_khz, .. } => Some(*tsc_khz),
            Record::Mark { .. } | Record::Ended { .. } | Record::Clock { .. } | Record::Lost { .. } => None,
        });
        khz.ok_or_else(|| "no start in the telemetry".into())
    }

    /// A figure of one value.
    pub fn single(&self, what: &str, unit: &str, value: f64) -> Figure {
        Figure::single(self.name(what), self.mode, unit, value)
    }
}
