//! `cargo xtask test --stress`: random machines, one after another, each from a seed that is printed.

use crate::failure::{Attempt, Failure, Outcome};
use crate::{build, setup, workspace};
use runner::stress::Trial;
use std::time::Instant;

/// Boots the machines of `count` seeds from `first` on, and judges each.
///
/// # Errors
///
/// How many failed; what they said lies in target/stress.
pub fn run(count: u64, first: u64) -> Outcome<()> {
    setup::emulator()?;
    build::all()?;
    let folder = workspace::root().join("target/stress");
    std::fs::create_dir_all(&folder).attempt(folder.display())?;
    let begun = Instant::now();
    let mut failed = 0_u64;
    for seed in seeds(first, count) {
        let trial = Trial::of_seed(seed);
        let started = Instant::now();
        let verdict = trial.run(&folder);
        let word = if verdict.is_ok() { "ok" } else { "FAILED" };
        println!("seed {seed} cpus={} {word} {:.1} s", trial.cpus, started.elapsed().as_secs_f64());
        if let Err(why) = verdict {
            failed += 1;
            let file = folder.join(format!("{seed}.log"));
            std::fs::write(&file, &why).attempt(file.display())?;
            if failed == 1 {
                eprintln!("{why}");
            }
            eprintln!("again: cargo xtask test --stress 1 --seed {seed}; kept: {}", file.display());
        }
    }
    println!("{} passed, {failed} failed in {:.0} s", count - failed, begun.elapsed().as_secs_f64());
    if failed == 0 { Ok(()) } else { Err(Failure::new(format!("{failed} of {count} machines failed"))) }
}

/// So many seeds; the one after the greatest is 0.
fn seeds(first: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |number| first.wrapping_add(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_machines_boot_as_were_asked_for() {
        assert_eq!(seeds(u64::MAX - 1, 3).collect::<Vec<_>>(), [u64::MAX - 1, u64::MAX, 0]);
    }
}
