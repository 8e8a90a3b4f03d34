//! Cooperative kernel threads on the first processor: a thread runs until it gives way.
#![expect(unsafe_code, reason = "switches stacks")]

use super::percpu;
use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use spin::Mutex;

/// Number of threads, the kernel's main function included.
const THREADS: usize = 4;
const STACK_BYTES: usize = 16 << 10;

#[repr(align(16))]
struct Stack(UnsafeCell<[u8; STACK_BYTES]>);
// SAFETY: only one thread uses each stack, through its stack pointer and never through Rust.
unsafe impl Sync for Stack {}

static STACKS: [Stack; THREADS] = [const { Stack(UnsafeCell::new([0; STACK_BYTES])) }; THREADS];
/// Stack pointer of each thread that is not running; 0 = no such thread.
static POINTERS: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];
static CURRENT: AtomicUsize = AtomicUsize::new(0);
/// The function and argument of a thread that has not begun.
type Task = Mutex<Option<(fn(u64), u64)>>;
static TASKS: [Task; THREADS] = [const { Mutex::new(None) }; THREADS];

/// No thread was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoThread;

/// Makes a thread that runs `task(argument)` from the next [`give_way`] on.
///
/// # Errors
///
/// All threads are in use, or the caller is not on the first processor.
pub fn spawn(task: fn(u64), argument: u64) -> Result<(), NoThread> {
    let current = CURRENT.load(Ordering::Relaxed);
    let free = |slot: &usize| *slot != 0 && *slot != current && POINTERS[*slot].load(Ordering::Relaxed) == 0;
    let slot = (0..THREADS).find(free).filter(|_| percpu::this().index() == 0).ok_or(NoThread)?;
    *TASKS[slot].lock() = Some((task, argument));
    let top = STACKS[slot].0.get().expose_provenance() + STACK_BYTES;
    // `switch` pops six registers and returns; above the return address the stack is as after a CALL.
    let pointer = top - 8 * 8;
    let first = core::ptr::with_exposed_provenance_mut::<u64>(pointer);
    // SAFETY: the words lie in the stack of a thread that does not exist yet.
    unsafe {
        for word in 0..6 {
            first.add(word).write(0);
        }
        first.add(6).write((begin as *const ()).expose_provenance() as u64);
        first.add(7).write(0);
    }
    POINTERS[slot].store(pointer as u64, Ordering::Relaxed);
    Ok(())
}

/// Runs the other threads in turn; returns when each has given way.
#[inline]
pub fn give_way() {
    if percpu::this().index() != 0 {
        return;
    }
    let current = CURRENT.load(Ordering::Relaxed);
    let next = (1..THREADS).map(|n| (current + n) % THREADS);
    if let Some(next) = next.into_iter().find(|&slot| POINTERS[slot].load(Ordering::Relaxed) != 0) {
        CURRENT.store(next, Ordering::Relaxed);
        let pointer = POINTERS[next].swap(0, Ordering::Relaxed);
        // SAFETY: `switch` or `spawn` left `pointer`, and the swap above makes this its only use. An interrupt in
        // between runs on the current stack.
        unsafe { switch(POINTERS[current].as_ptr(), pointer) };
    }
}

/// The first function of every thread.
extern "C" fn begin() -> ! {
    let task = TASKS[CURRENT.load(Ordering::Relaxed)].lock().take();
    if let Some((task, argument)) = task {
        task(argument);
    }
    loop {
        give_way();
    }
}

/// Stores this thread's stack pointer in `save` and continues the thread whose stack pointer is `load`.
///
/// # Safety
///
/// `switch` or `spawn` left `load` for a thread, and nobody uses it twice; `save` is writable.
#[unsafe(naked)]
unsafe extern "sysv64" fn switch(save: *mut u64, load: u64) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret"
    )
}
