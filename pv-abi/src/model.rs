//! Words made of loom's atomics, with their barriers taken away on request, and guests that can be interrupted between any
//! two instructions.
#![expect(clippy::unwrap_used, missing_docs, reason = "for models only: a poisoned lock fails the test")]

use crate::protocol::word::Word;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};

/// Whether a party's read-modify-writes are full barriers, as the protocol asks, or order nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Barrier {
    Full,
    Missing,
}

/// One party's view of a shared word.
#[derive(Clone)]
pub struct Shared {
    word: Arc<AtomicU64>,
    barrier: Barrier,
    /// Held by a guest for each instruction, by the hypervisor for a whole exit.
    cpu: Option<Arc<Mutex<()>>>,
}

impl Shared {
    pub fn new(value: u64) -> Self {
        Self { word: Arc::new(AtomicU64::new(value)), barrier: Barrier::Full, cpu: None }
    }

    /// The same word for a party with these barriers.
    pub fn with(&self, barrier: Barrier) -> Self {
        Self { barrier, ..self.clone() }
    }

    /// The same word for a guest on this pCPU.
    pub fn on(&self, cpu: &Arc<Mutex<()>>) -> Self {
        Self { cpu: Some(cpu.clone()), ..self.clone() }
    }

    fn instruction<T>(&self, body: impl FnOnce(&AtomicU64) -> T) -> T {
        let _between_exits = self.cpu.as_ref().map(|cpu| cpu.lock().unwrap());
        body(&self.word)
    }
}

impl Word for Shared {
    fn load(&self) -> u64 {
        self.instruction(Word::load)
    }

    fn load_relaxed(&self) -> u64 {
        self.instruction(Word::load_relaxed)
    }

    fn store(&self, value: u64) {
        self.instruction(|word| Word::store(word, value));
    }

    fn store_relaxed(&self, value: u64) {
        self.instruction(|word| Word::store_relaxed(word, value));
    }

    fn fetch_or(&self, bits: u64) -> u64 {
        self.instruction(|word| match self.barrier {
            Barrier::Full => Word::fetch_or(word, bits),
            Barrier::Missing => word.fetch_or(bits, Ordering::AcqRel),
        })
    }

    fn fetch_and(&self, bits: u64) -> u64 {
        self.instruction(|word| match self.barrier {
            Barrier::Full => Word::fetch_and(word, bits),
            Barrier::Missing => word.fetch_and(bits, Ordering::AcqRel),
        })
    }

    fn swap(&self, value: u64) -> u64 {
        self.instruction(|word| match self.barrier {
            Barrier::Full => Word::swap(word, value),
            Barrier::Missing => word.swap(value, Ordering::AcqRel),
        })
    }

    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
        self.instruction(|word| Word::compare_exchange(word, current, new))
    }

    fn fence() {
        <AtomicU64 as Word>::fence();
    }
}

/// Explores `body` with at most three preemptions, or `LOOM_MAX_PREEMPTIONS`.
pub fn explore(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(body);
}
