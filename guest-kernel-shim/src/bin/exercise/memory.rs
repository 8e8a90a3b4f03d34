//! Memory that goes and comes while the other processors of this guest compute: what is taken is always cleared.

use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_shim::call::Code;
use guest_kernel_shim::memory::{Absent, Blocks};
use guest_kernel_shim::{Boot, idle, ipi, println, smp};

/// Words in a page.
const PAGE: usize = 512;

static COMPUTED: AtomicU64 = AtomicU64::new(0);

/// `first=N blocks=N rounds=N`: gives so many blocks back and takes them again, and once takes what it did not begin with.
/// Prints `#memory taken=N dirty=N`: blocks, and pages of them that were not zero.
pub fn run(boot: &'static Boot) -> Result<(), &'static str> {
    for index in 1..smp::count() {
        smp::start(index, compute, 0).map_err(|_| "a processor did not start")?;
    }
    let number = |key| boot.number(key).unwrap_or(1);
    let (mut taken, mut dirty) = (0, 0);
    let mut take = |absent: Absent| {
        let blocks = absent.take_all().map_err(|_| "a block does not come")?;
        taken += blocks.count();
        dirty += soil(&blocks);
        Ok::<_, &'static str>(blocks)
    };
    let mut blocks = Blocks::claim(boot, number("first"), number("blocks")).ok_or("no such blocks")?;
    soil(&blocks);
    for _ in 0..number("rounds") {
        blocks = take(give(blocks)?)?;
    }
    if let Some(more) = Absent::beyond(boot) {
        give(take(more)?)?;
    }
    println!("#memory taken={taken} dirty={dirty}");
    (dirty == 0).then_some(()).ok_or("what was taken was not cleared")
}

/// Gives blocks back, as soon as the batch before is gone.
fn give(mut blocks: Blocks) -> Result<Absent, &'static str> {
    loop {
        match blocks.give() {
            Ok(absent) => return Ok(absent),
            Err((kept, Code::AGAIN)) => blocks = kept,
            Err(_) => return Err("a block cannot be given back"),
        }
        idle::yield_if_wanted();
        ipi::relax();
    }
}

/// Writes to every page; how many of them were not zero.
fn soil(blocks: &Blocks) -> u64 {
    let mut dirty = 0;
    for page in blocks.words().chunks(PAGE) {
        dirty += u64::from(page.iter().step_by(8).any(|word| word.load(Ordering::Relaxed) != 0));
        if let Some(word) = page.get(8) {
            word.store(u64::MAX, Ordering::Relaxed);
        }
    }
    dirty
}

fn compute(_: u64) {
    loop {
        COMPUTED.fetch_add(1, Ordering::Relaxed);
        ipi::relax();
    }
}
