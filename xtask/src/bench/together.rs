//! Two machines at a time: the clock is counted in instructions, so they do not disturb each other's figures.

use super::figure::Figure;
use super::job::Job;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Machines that run at once.
const AT_ONCE: usize = 2;

/// Boots all; returns the figures in the order of `jobs`, and what went wrong.
pub fn run(jobs: &[Job]) -> (Vec<Figure>, Vec<String>) {
    let bar = progress(jobs.len());
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, Result<Vec<Figure>, String>>> = Mutex::new(BTreeMap::new());
    let running: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { break };
            show(&bar, &running, |names| names.push(&job.name));
            let started = Instant::now();
            let result = job.run();
            if bar.is_hidden() {
                // No terminal: a line instead of a bar.
                eprintln!(
                    "{} of {} {}: {:.0} s",
                    at + 1,
                    jobs.len(),
                    job.name,
                    started.elapsed().as_secs_f64()
                );
            }
            show(&bar, &running, |names| names.retain(|name| *name != job.name));
            results.lock().unwrap_or_else(PoisonError::into_inner).insert(at, result);
            bar.inc(1);
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let (mut figures, mut troubles) = (Vec::new(), Vec::new());
    for result in results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values() {
        match result {
            Ok(some) => figures.extend(some),
            Err(trouble) => troubles.push(trouble),
        }
    }
    (figures, troubles)
}

fn show<'a>(bar: &ProgressBar, running: &Mutex<Vec<&'a str>>, change: impl FnOnce(&mut Vec<&'a str>)) {
    let mut names = running.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut names);
    bar.set_message(names.join(", "));
}

fn progress(jobs: usize) -> ProgressBar {
    let bar = ProgressBar::new(jobs as u64);
    if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} [{bar:30}] {pos}/{len} machines  {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
