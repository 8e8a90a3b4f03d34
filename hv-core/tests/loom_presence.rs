//! A vCPU between processors: no wake is lost, no order to stop, and no two processors hold it. See `policy::presence`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a poisoned lock or a lost thread fails the test")]

use hv_core::base::id::CpuId;
use hv_core::guest::lifecycle::{Lifecycle, Stopped};
use hv_core::policy::mailbox::Mailbox;
use hv_core::policy::presence::{Attention, Life, Notification, Presence};
use hv_core::policy::sched::Slot;
use hv_core::policy::trace::Ending;
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
    /// Who starts a vCPU does not ask the guest's course once the vCPU lives.
    Lifecycle,
    /// A start-up looks whether the vCPU has stopped, and forgets itself if it has not.
    WaitingStartUp,
    /// An order to stop leaves a start-up that came before.
    Overtaking,
    /// The mover leaves the vCPU in its parking space, but keeps a copy.
    Handover,
    /// Who enters guest mode takes all of attention, an order to stop included.
    KeptStop,
}

/// The vCPU itself: whoever has it may run it.
struct Token;

/// As `guest::parking` has it.
#[derive(Default)]
struct ParkingSpace {
    vcpu: Option<Token>,
    start_up: Option<u8>,
}

/// One vCPU and the processors around it.
#[derive(Clone)]
struct Scene {
    presence: Arc<Presence<Shared>>,
    seq: Shared,
    space: Arc<Mutex<ParkingSpace>>,
    /// What each processor holds.
    tables: [Arc<Mutex<Option<Token>>>; 2],
    mailbox: Arc<[Mailbox<Shared>; 2]>,
    lifecycle: Arc<Mutex<Lifecycle>>,
    stopped: Arc<Mutex<u32>>,
    /// At which pages it began.
    begun: Arc<Mutex<Vec<u8>>>,
    without: Without,
}

impl Scene {
    /// A vCPU that the first processor holds, in this place of its life.
    fn new(life: Life, seq: u64, without: Without) -> Self {
        let presence = Presence::new(|| Shared::new(0));
        presence.set_life(life);
        let mut lifecycle = Lifecycle::new(0);
        lifecycle.begin();
        let held = life != Life::Stopped;
        if held {
            assert!(lifecycle.start());
        }
        let place = |held: bool| Arc::new(Mutex::new(held.then_some(Token)));
        Self {
            presence: Arc::new(presence),
            seq: Shared::new(seq),
            space: Arc::new(Mutex::new(ParkingSpace { vcpu: (!held).then_some(Token), start_up: None })),
            tables: [place(held), place(false)],
            mailbox: Arc::new([(); 2].map(|()| Mailbox::new(|| Shared::new(0)))),
            lifecycle: Arc::new(Mutex::new(lifecycle)),
            stopped: Arc::new(Mutex::new(0)),
            begun: Arc::new(Mutex::new(Vec::new())),
            without,
        }
    }

    fn post(&self, to: CpuId) -> Interrupt {
        self.mailbox[usize::from(to.0)].post(SLOT)
    }

    /// Sender: an order to stop, which is told unless the vCPU is stopped, as `Cpu::stop` does.
    fn order_stop(&self) {
        let lives = {
            let mut space = self.space.lock().unwrap();
            if self.without != Without::Overtaking {
                space.start_up = None;
            }
            let lives = self.presence.life() != Life::Stopped;
            if lives {
                self.presence.attention.fetch_or(Attention::STOP.bits());
            }
            lives
        };
        if lives {
            let _ = self.post(self.presence.holder());
        }
    }

    /// Sender: a start-up, as `Cpu::start` does.
    fn start_up(&self, page: u8, home: CpuId) {
        let mut space = self.space.lock().unwrap();
        if self.presence.life() == Life::Stopped {
            let Some(token) = space.vcpu.take() else { return };
            self.revive();
            drop(space);
            self.begin(token, page, home);
        } else if self.presence.attention.load() & Attention::STOP.bits() != 0
            && self.without != Without::WaitingStartUp
        {
            let _ = *space.start_up.get_or_insert(page);
        }
    }

    fn revive(&self) {
        self.presence.attention.fetch_and(!Attention::STOP.bits());
        self.presence.set_life(Life::Runnable);
    }

    /// As `Cpu::launch` and `Cpu::restart` do.
    fn begin(&self, token: Token, page: u8, home: CpuId) {
        if self.without != Without::Lifecycle {
            let starts = self.lifecycle.lock().unwrap().start();
            if !starts {
                *self.space.lock().unwrap() = ParkingSpace { vcpu: Some(token), start_up: None };
                self.presence.set_life(Life::Stopped);
                return;
            }
        }
        self.begun.lock().unwrap().push(page);
        self.presence.set_holder(home);
        self.space.lock().unwrap().vcpu = Some(token);
        let _ = self.post(home);
    }

    /// Holder: gives the vCPU away, as `Cpu::send` and `Cpu::hand_over` do.
    fn send(&self, from: usize, to: CpuId) {
        let Some(token) = self.tables[from].lock().unwrap().take() else { return };
        if self.without == Without::Handover {
            *self.tables[from].lock().unwrap() = Some(Token);
        }
        self.space.lock().unwrap().vcpu = Some(token);
        self.presence.set_holder(to);
        let _ = self.post(to);
    }

    /// Holder: looks at the vCPU, as `Cpu::look_at` and `Cpu::park` do.
    fn obey(&self, table: &mut Option<Token>) {
        if self.presence.attention.load() & Attention::STOP.bits() != 0 {
            let token = table.take().unwrap();
            let mut space = self.space.lock().unwrap();
            if let Some(page) = space.start_up.take() {
                self.revive();
                drop(space);
                self.begin(token, page, CpuId(0));
            } else {
                space.vcpu = Some(token);
                self.presence.set_life(Life::Stopped);
                drop(space);
            }
            let _: Stopped = self.lifecycle.lock().unwrap().stop();
            *self.stopped.lock().unwrap() += 1;
        }
    }

    /// Receiver: reads its notifications, as `Cpu::take_notifications` does.
    fn read(&self, cpu: usize) {
        let notifications = self.mailbox[cpu].take();
        for _ in notifications {
            let mut table = self.tables[cpu].lock().unwrap();
            let me = CpuId(u16::try_from(cpu).unwrap());
            match self.presence.on_notification(me, table.is_some()) {
                Notification::Mine => self.obey(&mut table),
                Notification::Gone => {}
                Notification::PickUp => {
                    let mut space = self.space.lock().unwrap();
                    if self.presence.life() != Life::Stopped
                        && let Some(token) = space.vcpu.take()
                    {
                        drop(space);
                        assert!(table.replace(token).is_none(), "held twice");
                        if self.without != Without::LookAtArrival {
                            self.obey(&mut table);
                        }
                    }
                }
            }
        }
    }

    /// Reads notifications until there are none, as processors that are told do.
    fn settle(&self) {
        while !(self.mailbox[0].is_empty() && self.mailbox[1].is_empty()) {
            self.read(0);
            self.read(1);
        }
        let held = self.tables.iter().filter(|place| place.lock().unwrap().is_some()).count();
        let found = held + usize::from(self.space.lock().unwrap().vcpu.is_some());
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
                // `VcpuShared::attend`, then `CpuContext::wake`.
                match barrier(Without::SendersBarrier) {
                    Barrier::Full => scene.presence.attention.fetch_or(Attention::EVENT.bits()),
                    Barrier::Missing => {
                        scene.presence.attention.with(Barrier::Missing).fetch_or(Attention::EVENT.bits())
                    }
                };
                scene.presence.must_be_told(&scene.seq).then(|| scene.post(scene.presence.holder()))
            })
        };
        scene.presence.fall_asleep();
        switch_out(&scene.seq.with(barrier(Without::SleepersBarrier)));
        let stays = without != Without::SecondLook && scene.presence.attention.load_relaxed() != 0;
        if stays {
            scene.presence.set_life(Life::Runnable);
        }
        let halted = !stays && scene.mailbox[0].go_away() == Enter::Alone;
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
        scene.presence.attention.fetch_or(Attention::EVENT.bits());
        let stopper = {
            let scene = scene.clone();
            loom::thread::spawn(move || scene.order_stop())
        };
        if scene.presence.attention.load() & Attention::STOP.bits() == 0 {
            let _ = if without == Without::KeptStop {
                scene.presence.attention.swap(0)
            } else {
                scene.presence.take_attention(Attention::NEWS).bits()
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
        assert!(scene.lifecycle.lock().unwrap().start());
        let ender = {
            let scene = scene.clone();
            loom::thread::spawn(move || {
                assert!(scene.lifecycle.lock().unwrap().end(Ending::Off));
                scene.order_stop();
                // The other vCPU, and who stops them all.
                let first = scene.lifecycle.lock().unwrap().stop();
                let second = scene.lifecycle.lock().unwrap().stop();
                if second == Stopped::OthersRun { first } else { second }
            })
        };
        scene.start_up(8, CpuId(1));
        scene.read(1);
        let last = ender.join().unwrap();
        scene.settle();
        assert_eq!(scene.presence.life(), Life::Stopped, "it outlives its guest");
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
fn without_a_question_to_the_course_a_vcpu_outlives_its_guest() {
    an_end_beside_a_start(Without::Lifecycle);
}

/// INIT and two start-ups come while the vCPU's processor is about to obey; `orders` says which, with a page for a start-up.
fn orders_beside_a_holder(without: Without, orders: &'static [Option<u8>], begun: &'static [&'static [u8]]) {
    explore(move || {
        let scene = Scene::new(Life::Runnable, 0, without);
        // Another vCPU of the guest runs: who sends.
        assert!(scene.lifecycle.lock().unwrap().start());
        let holder = {
            let scene = scene.clone();
            loom::thread::spawn(move || scene.read(0))
        };
        for order in orders {
            match order {
                Some(page) => scene.start_up(*page, CpuId(1)),
                None => scene.order_stop(),
            }
        }
        holder.join().unwrap();
        scene.settle();
        let (life, pages) = (scene.presence.life(), scene.begun.lock().unwrap().clone());
        let starts = orders.last() != Some(&None);
        assert_eq!(life, if starts { Life::Runnable } else { Life::Stopped }, "an order is lost: {pages:?}");
        assert!(begun.contains(&&pages[..]), "{pages:?}");
    });
}

#[test]
fn a_start_up_after_init_starts_the_vcpu_whenever_init_is_obeyed() {
    orders_beside_a_holder(Without::Nothing, &[None, Some(8), Some(9)], &[&[8]]);
}

#[test]
#[should_panic(expected = "an order is lost")]
fn a_start_up_that_does_not_wait_for_init_is_lost() {
    orders_beside_a_holder(Without::WaitingStartUp, &[None, Some(8), Some(9)], &[&[8]]);
}

#[test]
fn init_after_a_start_up_stops_the_vcpu_whether_it_has_begun_or_not() {
    orders_beside_a_holder(Without::Nothing, &[None, Some(8), None], &[&[], &[8]]);
}

#[test]
#[should_panic(expected = "an order is lost")]
fn without_overtaking_a_start_up_outlives_the_init_after_it() {
    orders_beside_a_holder(Without::Overtaking, &[None, Some(8), None], &[&[], &[8]]);
}
