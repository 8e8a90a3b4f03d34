//! Random machines from a seed: processors, guests of either kind, what they do and how each must end. The same seed makes the
//! same machine, so that one that failed can be looked at again.

use crate::machine::{Ended, Machine, Outcome};
use crate::refusal::Refusal;
use crate::scenario::Scenario;
use hv_format::record::Ending;
use oorandom::Rand32;
use std::fmt::Write;
use std::path::Path;

/// Memory of the machine and of each guest, in MiB.
const MACHINE_MIB: u32 = 1024;
const GUEST_MIB: u32 = 16;
/// A machine that takes longer has lost a wake, or a vCPU.
const TIMEOUT_S: u32 = 60;

/// A random machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// What it was made from.
    pub seed: u64,
    /// Its processors.
    pub cpus: u8,
    /// The scenario, as a file would have it.
    pub text: String,
    guests: Vec<Expected>,
}

/// How a guest must fare.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    name: String,
    endings: Vec<End>,
    /// A number that it must print: line, key, value.
    says: Option<(&'static str, &'static str, i64)>,
}

/// How a life of a guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Off,
    Reboot,
    Crash,
    Killed,
}

impl End {
    const fn is(self, ending: &Ending) -> bool {
        matches!(
            (self, ending),
            (Self::Off, Ending::Off)
                | (Self::Reboot, Ending::Reboot)
                | (Self::Crash, Ending::Crash)
                | (Self::Killed, Ending::Killed(_))
        )
    }
}

/// What a guest does, and how its lives end.
struct Deed {
    kernel: &'static str,
    command_line: String,
    endings: Vec<End>,
    says: Option<(&'static str, &'static str, i64)>,
}

fn deed(random: &mut Rand32, cooperative: bool, vcpus: u8, restarts: u32) -> Deed {
    let every_life = |end| vec![end; usize::try_from(restarts).unwrap_or(0) + 1];
    let exercise =
        |command_line: String, endings, says| Deed { kernel: "exercise", command_line, endings, says };
    let misbehave = |deed: &str, end| Deed {
        kernel: "misbehave",
        command_line: format!("do={deed}"),
        endings: every_life(end),
        says: None,
    };
    let rounds = random.rand_range(20..150);
    let sum = i64::from(vcpus) * i64::from(rounds);
    let churned = Some(("churn", "sum", sum));
    // A full guest has no other way to say that it crashed than a triple fault.
    let crash = if cooperative { End::Crash } else { End::Killed };
    match random.rand_range(0..9) {
        0 => exercise("do=smp".into(), vec![End::Off], Some(("smp", "sum", i64::from(vcpus) * 500))),
        1 | 2 => exercise(format!("do=churn rounds={rounds}"), vec![End::Off], churned),
        3 if cooperative => {
            let lives = random.rand_range(2..5);
            let mut endings = vec![End::Reboot; lives as usize - 1];
            endings.push(End::Off);
            exercise(format!("do=churn rounds={rounds} spin then=reboot lives={lives}"), endings, churned)
        }
        3 | 4 => exercise(format!("do=churn rounds={rounds} spin then=crash"), every_life(crash), churned),
        5 => {
            let until_ms = random.rand_range(300..900);
            exercise(format!("do=busy until_ms={until_ms}"), vec![End::Off], None)
        }
        6 => misbehave("hole", End::Killed),
        7 => misbehave("triple", End::Killed),
        _ => Deed { kernel: "hello", command_line: String::new(), endings: vec![End::Off], says: None },
    }
}

impl Trial {
    /// The machine of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Rand32::new(seed);
        let cpus: u8 = [1, 2, 2, 3, 4, 4][random.rand_range(0..6) as usize];
        let mut text = format!(
            "[machine]\ntsc = \"trusted\"\ncpus = {cpus}\nmemory_mib = {MACHINE_MIB}\ntimeout_s = {TIMEOUT_S}\n"
        );
        let mut guests = Vec::new();
        for number in 0..random.rand_range(2..9) {
            let cooperative = random.rand_range(0..2) == 0;
            let vcpus: u8 = [1, 2, 3, 4, 4, 8][random.rand_range(0..6) as usize];
            let restarts = random.rand_range(0..3);
            let weight = [1, 100, 100, 300, 10_000][random.rand_range(0..5) as usize];
            let visibility = ["bit", "bit", "none"][random.rand_range(0..3) as usize];
            let pin: Vec<u32> = match random.rand_range(0..4) {
                0 => (0..random.rand_range(1..4)).map(|_| random.rand_range(0..u32::from(cpus))).collect(),
                _ => Vec::new(),
            };
            let deed = deed(&mut random, cooperative, vcpus, restarts);
            let mode = if cooperative { "cooperative" } else { "full" };
            let name = format!("{}-{number}", if cooperative { "coop" } else { "full" });
            // A full guest is told by no firmware table how many processors it has.
            let line = format!("{} cpus={vcpus}", deed.command_line);
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n[[guest]]\nname = \"{name}\"\nkernel = \"{}\"\nmode = \"{mode}\"\nvcpus = {vcpus}\n\
                 memory_mib = {GUEST_MIB}\nweight = {weight}\nvisibility = \"{visibility}\"\nrestarts = {restarts}\n\
                 pin = {pin:?}\ncommand_line = \"{}\"\n",
                deed.kernel,
                line.trim()
            );
            guests.push(Expected { name, endings: deed.endings, says: deed.says });
        }
        Self { seed, cpus, text, guests }
    }

    /// The scenario; `folder` is where it would lie.
    ///
    /// # Errors
    ///
    /// What is wrong with it, which is a mistake of the generator's.
    pub fn scenario(&self, folder: &Path) -> Result<Scenario, Refusal> {
        Scenario::parse(&folder.join(format!("stress-{}.toml", self.seed)), self.text.clone())
    }

    /// Boots the machine and judges what came of it.
    ///
    /// # Errors
    ///
    /// What went wrong, with everything that the machine said.
    pub fn run(&self, folder: &Path) -> Result<(), String> {
        let scenario = self.scenario(folder).map_err(|refusal| refusal.to_string())?;
        let machine = Machine::of_scenario(&scenario).map_err(|refusal| refusal.to_string())?;
        let outcome = machine.run().map_err(|error| error.to_string())?;
        let judged = self.judge(&outcome);
        judged.map_err(|why| format!("seed {}: {why}\n{}\n{}", self.seed, outcome.transcript(), self.text))
    }

    fn judge(&self, outcome: &Outcome) -> Result<(), String> {
        let well = self.guests.iter().all(|guest| matches!(guest.endings.last(), Some(End::Off)));
        let wanted = if well { Ended::Well } else { Ended::Badly };
        if outcome.ended != wanted {
            return Err(format!("ended {}, expected {wanted}", outcome.ended));
        }
        for guest in &self.guests {
            let endings = outcome.endings_of(&guest.name);
            let same = endings.len() == guest.endings.len()
                && endings.iter().zip(&guest.endings).all(|((ending, _), wanted)| wanted.is(ending));
            if !same {
                let endings: Vec<_> = endings.iter().map(|(ending, _)| ending).collect();
                return Err(format!("{} ended {endings:?}, expected {:?}", guest.name, guest.endings));
            }
            if let Some((line, key, value)) = guest.says
                && outcome.number(&guest.name, line, key) != Some(value)
            {
                return Err(format!("{} did not print {line} {key}={value}", guest.name));
            }
            if outcome.lines_of(&guest.name).iter().any(|line| line.starts_with("#bad")) {
                return Err(format!("{} printed a line that begins with #bad", guest.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_machine_and_another_one_another() {
        assert_eq!(Trial::of_seed(7), Trial::of_seed(7));
        assert_ne!(Trial::of_seed(7).text, Trial::of_seed(8).text);
    }

    #[test]
    fn every_machine_is_a_sound_scenario_and_everything_occurs() {
        let texts: Vec<String> = (0..500)
            .map(|seed| {
                let trial = Trial::of_seed(seed);
                trial
                    .scenario(Path::new("/stress"))
                    .unwrap_or_else(|refusal| panic!("{refusal}\n{}", trial.text));
                trial.text
            })
            .collect();
        for word in [
            "cpus = 1",
            "cpus = 3",
            "cpus = 4",
            "then=crash",
            "lives=",
            "do=hole",
            "do=triple",
            "do=smp",
            "hello",
            "pin = [0, ",
            "none",
        ] {
            assert!(texts.iter().any(|text| text.contains(word)), "{word}");
        }
    }
}
