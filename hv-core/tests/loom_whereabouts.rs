//! A vCPU between processors: no wake is lost, no order to stop, and no two processors hold it. See `policy::whereabouts`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a poisoned lock or a lost thread fails the test")]

use hv_core::base::id::CpuId;
use hv_core::dispatch::course::{Course, Stopped};
use hv_core::policy::mail::Mailbox;
use hv_core::policy::sched::Slot;
use hv_core::policy::trace::Ending;
use hv_core::policy::whereabouts::{Letter, Life, Whereabouts, attention};
use loom::sync::{Arc, Mutex};
use pv_abi::model::{Barrier, Shared, explore};
use pv_abi::protocol::dispatch::switch_out;
use pv_abi::protocol::word::Word;
use pv_abi::protocol::yield_wanted::{Enter, Interrupt};

const SLOT: Slot = Slot(5);

/// What is left out of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    Nothing,
    /// The sender's read-modify-write orders nothing.
    SendersBarrier,
    /// Publishing as off CPU orders nothing.
    SleepersBarrier,
    /// The sleeper does not look once more.
    SecondLook,
    /// A vCPU that arrives is not looked at.
    LookAtArrival,
    /// Who starts a vCPU does not ask the guest's course under its lock.
    Course,
    /// The mover leaves the vCPU in its berth, but keeps a copy.
    Handover,
    /// Who enters guest mode takes all of attention, an order to stop included.
    KeptStop,
}

/// The vCPU itself: whoever has it may run it.
struct Token;

/// One vCPU and the processors around it.
#[derive(Clone)]
struct Scene {
    whereabouts: Arc<Whereabouts<Shared>>,
    seq: Shared,
    berth: Arc<Mutex<Option<Token>>>,
    /// What each processor holds.
    tables: [Arc<Mutex<Option<Token>>>; 2],
    mail: Arc<[Mailbox<Shared>; 2]>,
    course: Arc<Mutex<Course>>,
    stopped: Arc<Mutex<u32>>,
    without: Without,
}

impl Scene {
    /// A vCPU that the first processor holds, in this place of its life.
    fn new(life: Life, seq: u64, without: Without) -> Self {
        let whereabouts = Whereabouts::new(|| Shared::new(0));
        whereabouts.set_life(life);
        let mut course = Course::new(0);
        course.begin();
        let held = life != Life::Stopped;
        if held {
            assert!(course.start());
        }
        let place = |held: bool| Arc::new(Mutex::new(held.then_some(Token)));
        Self {
            whereabouts: Arc::new(whereabouts),
            seq: Shared::new(seq),
            berth: place(!held),
            tables: [place(held), place(false)],
            mail: Arc::new([(); 2].map(|()| Mailbox::new(|| Shared::new(0)))),
            course: Arc::new(Mutex::new(course)),
            stopped: Arc::new(Mutex::new(0)),
            without,
        }
    }

    fn post(&self, to: CpuId) -> Interrupt {
        self.mail[usize::from(to.0)].post(SLOT)
    }

    /// Sender: an order to stop, which is always told.
    fn order_stop(&self) {
        if self.whereabouts.life() != Life::Stopped {
            self.whereabouts.attention.fetch_or(attention::STOP);
            let _ = self.post(self.whereabouts.holder());
        }
    }

    /// Holder: gives the vCPU away, as `Cpu::send` and `Cpu::hand_over` do.
    fn send(&self, from: usize, to: CpuId) {
        let Some(token) = self.tables[from].lock().unwrap().take() else { return };
        if self.without == Without::Handover {
            *self.tables[from].lock().unwrap() = Some(Token);
        }
        *self.berth.lock().unwrap() = Some(token);
        self.whereabouts.set_holder(to);
        let _ = self.post(to);
    }

    /// Holder: looks at the vCPU, as `Cpu::look_at` and `Cpu::park` do.
    fn obey(&self, table: &mut Option<Token>) {
        if self.whereabouts.attention.load() & attention::STOP != 0 {
            let token = table.take().unwrap();
            self.whereabouts.attention.fetch_and(!attention::STOP);
            let mut berth = self.berth.lock().unwrap();
            *berth = Some(token);
            self.whereabouts.set_life(Life::Stopped);
            drop(berth);
            let _: Stopped = self.course.lock().unwrap().stop();
            *self.stopped.lock().unwrap() += 1;
        }
    }

    /// Receiver: reads its letters, as `Cpu::read_mail` does.
    fn read(&self, cpu: usize) {
        let letters = self.mail[cpu].take();
        for _ in letters {
            let mut table = self.tables[cpu].lock().unwrap();
            let me = CpuId(u16::try_from(cpu).unwrap());
            match self.whereabouts.on_letter(me, table.is_some()) {
                Letter::Mine => self.obey(&mut table),
                Letter::Gone => {}
                Letter::PickUp => {
                    let mut berth = self.berth.lock().unwrap();
                    if self.whereabouts.life() != Life::Stopped
                        && let Some(token) = berth.take()
                    {
                        drop(berth);
                        assert!(table.replace(token).is_none(), "held twice");
                        if self.without != Without::LookAtArrival {
                            self.obey(&mut table);
                        }
                    }
                }
            }
        }
    }

    /// Starter, as `Cpu::launch` does.
    fn launch(&self, home: CpuId) {
        let token = {
            let mut berth = self.berth.lock().unwrap();
            if self.whereabouts.life() == Life::Stopped { berth.take() } else { None }
        };
        let Some(token) = token else { return };
        {
            let mut course = self.course.lock().unwrap();
            if !course.start() {
                drop(course);
                *self.berth.lock().unwrap() = Some(token);
                return;
            }
            if self.without == Without::Course {
                drop(course);
            }
            self.whereabouts.attention.fetch_and(!attention::STOP);
            self.whereabouts.set_holder(home);
            self.whereabouts.set_life(Life::Runnable);
        }
        *self.berth.lock().unwrap() = Some(token);
        let _ = self.post(home);
    }

    /// Reads letters until there are none, as processors that are told do.
    fn settle(&self) {
        while !(self.mail[0].is_empty() && self.mail[1].is_empty()) {
            self.read(0);
            self.read(1);
        }
        let places = [&self.tables[0], &self.tables[1], &self.berth];
        let found: usize = places.iter().map(|place| usize::from(place.lock().unwrap().is_some())).sum();
        assert_eq!(found, 1, "the vCPU is in one place");
    }
}

/// A vCPU blocks on its processor, which halts then; another one leaves it something.
fn a_sender_beside_a_sleeper(without: Without) {
    explore(move || {
        let scene = Scene::new(Life::Runnable, 1, without);
        let barrier = move |missing| if without == missing { Barrier::Missing } else { Barrier::Full };
        let sender = {
            let scene = scene.clone();
            loom::thread::spawn(move || {
                // `VcpuShared::attend`, then `Core::wake`.
                match barrier(Without::SendersBarrier) {
                    Barrier::Full => scene.whereabouts.attention.fetch_or(attention::EVENT),
                    Barrier::Missing => {
                        scene.whereabouts.attention.with(Barrier::Missing).fetch_or(attention::EVENT)
                    }
                };
                scene.whereabouts.must_be_told(&scene.seq).then(|| scene.post(scene.whereabouts.holder()))
            })
        };
        scene.whereabouts.fall_asleep();
        switch_out(&scene.seq.with(barrier(Without::SleepersBarrier)));
        let stays = without != Without::SecondLook && scene.whereabouts.attention.load_relaxed() != 0;
        if stays {
            scene.whereabouts.set_life(Life::Runnable);
        }
        let halted = !stays && scene.mail[0].go_away() == Enter::Alone;
        let told = sender.join().unwrap();
        let reached = match told {
            Some(Interrupt::Needed) => true,
            Some(Interrupt::NotNeeded) => !halted,
            None => false,
        };
        assert!(stays || reached, "a wake is lost");
    });
}

#[test]
fn no_wake_is_lost() {
    a_sender_beside_a_sleeper(Without::Nothing);
}

#[test]
#[should_panic(expected = "a wake is lost")]
fn without_the_senders_barrier_a_wake_is_lost() {
    a_sender_beside_a_sleeper(Without::SendersBarrier);
}

#[test]
#[should_panic(expected = "a wake is lost")]
fn without_the_sleepers_barrier_a_wake_is_lost() {
    a_sender_beside_a_sleeper(Without::SleepersBarrier);
}

#[test]
#[should_panic(expected = "a wake is lost")]
fn without_the_second_look_a_wake_is_lost() {
    a_sender_beside_a_sleeper(Without::SecondLook);
}

/// A vCPU that waits is moved while it is told to stop.
fn an_order_to_stop_beside_a_move(without: Without) {
    explore(move || {
        let scene = Scene::new(Life::Runnable, 0, without);
        let stopper = {
            let scene = scene.clone();
            loom::thread::spawn(move || scene.order_stop())
        };
        let receiver = {
            let scene = scene.clone();
            loom::thread::spawn(move || scene.read(1))
        };
        scene.send(0, CpuId(1));
        stopper.join().unwrap();
        receiver.join().unwrap();
        scene.settle();
        assert_eq!(*scene.stopped.lock().unwrap(), 1, "the order is lost");
    });
}

#[test]
fn an_order_to_stop_follows_a_vcpu_that_moves() {
    an_order_to_stop_beside_a_move(Without::Nothing);
}

#[test]
#[should_panic(expected = "the order is lost")]
fn without_a_look_at_arrival_an_order_is_lost() {
    an_order_to_stop_beside_a_move(Without::LookAtArrival);
}

#[test]
#[should_panic]
fn a_mover_that_keeps_the_vcpu_lets_two_run_it() {
    an_order_to_stop_beside_a_move(Without::Handover);
}

/// A vCPU that runs looks at what waits for it, as `entry::attend` does, while it is told to stop.
fn an_order_to_stop_beside_an_entry(without: Without) {
    explore(move || {
        let scene = Scene::new(Life::Runnable, 1, without);
        scene.whereabouts.attention.fetch_or(attention::EVENT);
        let stopper = {
            let scene = scene.clone();
            loom::thread::spawn(move || scene.order_stop())
        };
        if scene.whereabouts.attention.load() & attention::STOP == 0 {
            let _ = if without == Without::KeptStop {
                scene.whereabouts.attention.swap(0)
            } else {
                scene.whereabouts.take_attention(attention::NEWS)
            };
        }
        stopper.join().unwrap();
        scene.settle();
        assert_eq!(*scene.stopped.lock().unwrap(), 1, "the order is lost");
    });
}

#[test]
fn an_order_to_stop_outlasts_an_entry() {
    an_order_to_stop_beside_an_entry(Without::Nothing);
}

#[test]
#[should_panic(expected = "the order is lost")]
fn an_entry_that_takes_the_order_with_the_rest_loses_it() {
    an_order_to_stop_beside_an_entry(Without::KeptStop);
}

/// A vCPU is started while its guest is told to end.
fn an_end_beside_a_start(without: Without) {
    explore(move || {
        let scene = Scene::new(Life::Stopped, 0, without);
        // Another vCPU of the guest runs, and stops with it.
        assert!(scene.course.lock().unwrap().start());
        let ender = {
            let scene = scene.clone();
            loom::thread::spawn(move || {
                assert!(scene.course.lock().unwrap().end(Ending::Off));
                scene.order_stop();
                // The other vCPU, and who stops them all.
                let first = scene.course.lock().unwrap().stop();
                let second = scene.course.lock().unwrap().stop();
                if second == Stopped::OthersRun { first } else { second }
            })
        };
        scene.launch(CpuId(1));
        scene.read(1);
        let last = ender.join().unwrap();
        scene.settle();
        assert_eq!(scene.whereabouts.life(), Life::Stopped, "it outlives its guest");
        let started = *scene.stopped.lock().unwrap() == 1;
        assert!(started || last == Stopped::Ended(Ending::Off), "nobody sees to the end");
    });
}

#[test]
fn a_vcpu_that_starts_while_its_guest_ends_stops_with_it() {
    an_end_beside_a_start(Without::Nothing);
}

#[test]
#[should_panic(expected = "it outlives its guest")]
fn without_the_courses_lock_a_vcpu_outlives_its_guest() {
    an_end_beside_a_start(Without::Course);
}
