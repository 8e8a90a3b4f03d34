//! A ring's memory made of loom's atomics, with one ordering taken away on request.
#![allow(dead_code, reason = "each test binary uses its part")]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use ring_buffers::Memory;

/// What is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// Nothing: the product's orderings.
    None,
    /// Indices are stored relaxed.
    NoRelease,
    /// The peer's index is loaded relaxed.
    NoAcquire,
    /// Nothing stands between a store and the load after it.
    NoFence,
}

/// Shared words. Each party holds a clone.
#[derive(Clone)]
pub struct ModelMemory {
    words: Arc<Vec<AtomicU64>>,
    mutation: Mutation,
}

impl ModelMemory {
    pub fn new(words: usize, mutation: Mutation) -> Self {
        Self { words: Arc::new((0..words).map(|_| AtomicU64::new(0)).collect()), mutation }
    }

    /// The same words, seen by a party that leaves something out.
    pub fn with(&self, mutation: Mutation) -> Self {
        Self { words: self.words.clone(), mutation }
    }
}

impl Memory for ModelMemory {
    fn words(&self) -> usize {
        self.words.len()
    }

    fn load(&self, index: usize) -> u64 {
        self.words[index].load(Ordering::Relaxed)
    }

    fn store(&self, index: usize, value: u64) {
        self.words[index].store(value, Ordering::Relaxed);
    }

    fn load_acquire(&self, index: usize) -> u64 {
        let relaxed = self.mutation == Mutation::NoAcquire;
        self.words[index].load(if relaxed { Ordering::Relaxed } else { Ordering::Acquire })
    }

    fn store_release(&self, index: usize, value: u64) {
        let relaxed = self.mutation == Mutation::NoRelease;
        self.words[index].store(value, if relaxed { Ordering::Relaxed } else { Ordering::Release });
    }

    fn fence(&self) {
        if self.mutation != Mutation::NoFence {
            fence(Ordering::SeqCst);
        }
    }
}

/// Explores `body` with at most three preemptions, which finds every known bug of this kind, in bounded time.
pub fn explore(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(body);
}
