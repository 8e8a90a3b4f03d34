//! A guest's course over all processors: it runs, it is told to end, its last vCPU stops, it begins again or clears away what it
//! shared, and is over.

use crate::policy::trace::Ending;

/// What a guest is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It runs, or is about to.
    Running,
    /// It is to end so, once all its vCPUs are stopped.
    Ending(Ending),
    /// It has ended, and its first vCPU clears the pages that it shared.
    Leaving,
    /// It has ended.
    Over,
}

/// What follows from a vCPU's stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Stopped {
    /// Others run on, or somebody else sees to the end.
    OthersRun,
    /// It was the last, and nobody is left to start one.
    Deserted,
    /// It was the last of a guest that is to end so.
    Ended(Ending),
    /// It has cleared what its guest, which has ended, had shared.
    Left,
}

/// A guest's course.
#[derive(Debug)]
pub struct Lifecycle {
    phase: Phase,
    /// vCPUs that are not stopped, and whoever is stopping them all.
    live: u32,
    /// How often it may still be started again.
    restarts: u32,
}

impl Lifecycle {
    /// A guest that does not run yet.
    pub const fn new(restarts: u32) -> Self {
        Self { phase: Phase::Over, live: 0, restarts }
    }

    /// It begins, once more or for the first time.
    pub fn begin(&mut self) {
        self.phase = Phase::Running;
    }

    /// It has ended for good: one vCPU starts once more, and never enters guest mode.
    pub fn leave(&mut self) {
        self.phase = Phase::Leaving;
    }

    /// Whether it has ended for good.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Leaving | Phase::Over)
    }

    /// Whether a vCPU may start now; if so it counts.
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

    /// The guest is to end; false when that was decided already. Who is told true has every vCPU stopped, and then says
    /// [`Self::stop`] once for itself: until then the guest does not begin again, so that no stop meets its next life.
    #[must_use]
    pub fn end(&mut self, ending: Ending) -> bool {
        let runs = self.phase == Phase::Running;
        if runs {
            self.phase = Phase::Ending(ending);
            self.live += 1;
        }
        runs
    }

    /// A vCPU has stopped, or all were told to.
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

    /// Takes one of the restarts that are left.
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
