//! A guest's lifecycle over all processors: the guest runs, it is told to end, and its last vCPU stops. Then it begins again; or its first
//! vCPU clears the pages that it shared, and the guest is over.

use crate::policy::trace::Ending;

/// A guest's phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The guest runs, or is about to.
    Running,
    /// The guest is to end in this way, once all its vCPUs are stopped.
    Ending(Ending),
    /// The guest has ended, and its first vCPU clears the pages that it shared.
    Leaving,
    /// The guest has ended, or has not begun.
    Over,
}

/// The consequence of a vCPU's stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Stopped {
    /// Other vCPUs of the guest run on, or another processor completes the guest's end.
    OthersRun,
    /// The vCPU was the last of a running guest, which has no vCPU left to start another.
    Deserted,
    /// The vCPU was the last of a guest that is to end in this way.
    Ended(Ending),
    /// The vCPU has cleared the pages that its guest, which has ended, had shared.
    Left,
}

/// A guest's lifecycle state.
#[derive(Debug)]
pub struct Lifecycle {
    phase: Phase,
    /// Number of vCPUs that are not stopped; plus one while a processor that ends the guest is stopping them all.
    live: u32,
    /// Number of restarts that the guest has left.
    restarts: u32,
}

impl Lifecycle {
    /// A guest that does not run yet.
    pub const fn new(restarts: u32) -> Self {
        Self { phase: Phase::Over, live: 0, restarts }
    }

    /// The guest begins, for the first time or again.
    pub fn begin(&mut self) {
        self.phase = Phase::Running;
    }

    /// The guest has ended for good: one vCPU starts once more to clear the shared pages, and does not enter guest mode.
    pub fn leave(&mut self) {
        self.phase = Phase::Leaving;
    }

    /// Whether the guest has ended for good, or has not begun.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Leaving | Phase::Over)
    }

    /// Whether a vCPU may start now; if so, counts it as live.
    #[must_use]
    pub fn start(&mut self) -> bool {
        let starts = match self.phase {
            Phase::Running => true,
            Phase::Leaving => self.live == 0,
            Phase::Ending(_) | Phase::Over => false,
        };
        self.live += u32::from(starts);
        starts
    }

    /// Decides that the guest is to end; false when that was decided already. A caller that gets true orders every vCPU to stop, and then
    /// calls [`Self::stop`] once for itself. Until that call the guest does not begin again, so that no order to stop reaches its next life.
    #[must_use]
    pub fn end(&mut self, ending: Ending) -> bool {
        let runs = self.phase == Phase::Running;
        if runs {
            self.phase = Phase::Ending(ending);
            self.live += 1;
        }
        runs
    }

    /// A vCPU has stopped, or the caller of [`Self::end`] has ordered all to stop.
    pub fn stop(&mut self) -> Stopped {
        self.live = self.live.saturating_sub(1);
        if self.live > 0 {
            return Stopped::OthersRun;
        }
        match core::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Running => Stopped::Deserted,
            Phase::Ending(ending) => Stopped::Ended(ending),
            Phase::Leaving => Stopped::Left,
            Phase::Over => Stopped::OthersRun,
        }
    }

    /// Takes one of the restarts that are left; false when none is.
    pub fn take_restart(&mut self) -> bool {
        let left = self.restarts > 0;
        self.restarts = self.restarts.saturating_sub(1);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stop_of_a_guest_that_is_to_end_ends_it_once() {
        let mut lifecycle = Lifecycle::new(0);
        assert!(!lifecycle.start(), "it has not begun");
        lifecycle.begin();
        assert!(lifecycle.start() && lifecycle.start());
        assert!(lifecycle.end(Ending::Off));
        assert!(!lifecycle.end(Ending::Crash), "the first word counts");
        assert!(!lifecycle.start(), "nobody starts in a guest that ends");
        assert_eq!(lifecycle.stop(), Stopped::OthersRun);
        assert_eq!(lifecycle.stop(), Stopped::OthersRun, "who stops them is not through");
        assert_eq!(lifecycle.stop(), Stopped::Ended(Ending::Off));
        assert_eq!(lifecycle.stop(), Stopped::OthersRun, "it is over");
    }

    #[test]
    fn one_vcpu_clears_away_what_a_guest_shared_and_none_starts_beside_it() {
        let mut lifecycle = Lifecycle::new(0);
        lifecycle.begin();
        assert!(lifecycle.start() && lifecycle.end(Ending::Off) && !lifecycle.has_ended());
        assert_eq!((lifecycle.stop(), lifecycle.stop()), (Stopped::OthersRun, Stopped::Ended(Ending::Off)));
        lifecycle.leave();
        assert!(lifecycle.start() && lifecycle.has_ended());
        assert!(!lifecycle.start() && !lifecycle.end(Ending::Crash));
        assert_eq!(lifecycle.stop(), Stopped::Left);
        assert!(!lifecycle.start(), "it is over");
    }

    #[test]
    fn a_guest_whose_last_vcpu_stops_by_itself_is_deserted() {
        let mut lifecycle = Lifecycle::new(1);
        lifecycle.begin();
        assert!(lifecycle.start());
        assert_eq!(lifecycle.stop(), Stopped::Deserted);
        assert!(lifecycle.take_restart());
        assert!(!lifecycle.take_restart());
    }
}
