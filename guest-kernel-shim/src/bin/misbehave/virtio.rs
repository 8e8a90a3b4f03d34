//! Queues that no driver sets up, and chains that none makes. The device refuses, or says that it needs a reset and does nothing
//! until then; after one it works again. Section numbers: VIRTIO 1.2.

use crate::check::Check;
use crate::queue::{
    self, DATA, Device, EVENT_IDX, INDIRECT, INDIRECT_DESC, NEXT, Place, SIZE, WRITE, describe, disk_works,
    id, register, status,
};
use crate::storms;
use guest_kernel_shim::platform::{Mode, mode};

const TABLE: u64 = Place::GOOD.descriptors;
/// Another table, for descriptors that stand for one.
const INNER: u64 = DATA + 0x800;
/// Where a small guest's RAM ends.
const RAM_END: u64 = 16 << 20;
const MOST_BYTES: u64 = 0xffff_ffff;
/// Where there is no memory: behind RAM, the devices themselves, as far as addresses go, and further.
const OUTSIDE: [u64; 7] =
    [RAM_END, RAM_END - 1, 0xd000_0000, 0xfee0_0000, 0xffff_ffff_ffff_fff0, (1 << 52) - 16, 1 << 52];
/// How much an available index may not jump, for a queue of [`SIZE`].
const JUMPS: [u64; 5] = [SIZE + 1, 255, 0x7fff, 0x8000, 0xffff];

/// Tries them at each device.
pub fn broken(check: &mut Check) {
    if mode() != Mode::Full {
        check.skip("no virtio devices in this mode");
        return;
    }
    storms::wait_for_all();
    let Some(disk) = Device::of(id::DISK, 0) else {
        check.holds(format_args!("there is a disk"), false);
        return;
    };
    check.holds(format_args!("the disk works"), disk_works(&disk, 0x0123_4567_89ab_cdef));
    places(check, &disk);
    status_bits(check, &disk);
    for (kind, queue) in [(id::DISK, 0), (id::CONSOLE, 1), (id::NETWORK, 1), (id::ENTROPY, 0)] {
        let device = Device::of(kind, queue);
        check.holds(format_args!("there is a device {kind}"), device.is_some());
        if let Some(device) = device {
            let mut trial = Trial { check, device, disk, kind, count: 0 };
            chains(&mut trial);
            rings(&mut trial);
            let tried = trial.count;
            check.holds(format_args!("device {kind}: all were tried"), tried > 30);
        }
    }
    requests(&mut Trial { check, device: disk, disk, kind: id::DISK, count: 0 });
}

/// Where what is read goes, and what is said comes from.
const BUFFER: u64 = queue::ROOM + (1 << 20);
/// A disk of 1 MiB at once.
const DISK_BYTES: u64 = 1 << 20;
/// Text at once, and in all.
const SPEECH_BYTES: u64 = 24 << 10;
const MOST_SPEECHES: u64 = 2;
/// Bytes of a line, with its end.
const LINE_BYTES: u64 = 64;

/// The whole disk, read again and again.
pub fn reads(check: &mut Check) {
    again_and_again(check, "a read of the whole disk", (id::DISK, 0), u64::MAX, || {
        describe(TABLE, 0, DATA, 16, NEXT, 1);
        describe(TABLE, 1, BUFFER, DISK_BYTES, WRITE | NEXT, 2);
        describe(TABLE, 2, DATA + 16, 1, WRITE, 0);
    });
}

/// Random bytes, more than anybody is given at once.
pub fn wishes(check: &mut Check) {
    again_and_again(check, "a wish for random bytes", (id::ENTROPY, 0), u64::MAX, || {
        describe(TABLE, 0, BUFFER, DISK_BYTES, WRITE, 0);
    });
}

/// The longest frame, to everybody.
pub fn frames(check: &mut Check) {
    again_and_again(check, "a frame", (id::NETWORK, 1), u64::MAX, || {
        queue::poke(BUFFER + 8, u64::MAX); // the addresses follow twelve bytes of header
        queue::poke(BUFFER + 16, u64::MAX);
        describe(TABLE, 0, BUFFER, 1526, 0, 0);
    });
}

/// Long texts.
pub fn speeches(check: &mut Check) {
    again_and_again(check, "a speech", (id::CONSOLE, 1), MOST_SPEECHES, || {
        for line in 0..SPEECH_BYTES / LINE_BYTES {
            for word in 0..LINE_BYTES / 8 {
                let text = if word == LINE_BYTES / 8 - 1 { *b" speech\n" } else { *b"a speech" };
                queue::poke(BUFFER + line * LINE_BYTES + word * 8, u64::from_le_bytes(text));
            }
        }
        describe(TABLE, 0, BUFFER, SPEECH_BYTES, 0, 0);
    });
}

/// Offers the chain at descriptor 0 for as long as a victim runs beside, at most `most` times.
fn again_and_again(
    check: &mut Check,
    what: &str,
    (kind, queue): (u64, u64),
    most: u64,
    describe_all: impl FnOnce(),
) {
    let device = if mode() == Mode::Full { Device::of(kind, queue) } else { None };
    let Some(device) = device else {
        check.skip("no such device");
        return;
    };
    let ready = device.set_up(&Place::GOOD, 0);
    check.holds(format_args!("the queue is ready"), ready);
    describe_all();
    let mut times = 0;
    storms::storm(|_| {
        if times < most {
            times += 1;
            device.offer(0, times & 0xffff);
        }
    });
    storms::report(check, what, times);
    check.one_of(format_args!("{what}: used"), device.used(), &[times & 0xffff]);
    check.holds(format_args!("{what}: the device is well"), !device.needs_reset());
}

/// One device on trial.
struct Trial<'a> {
    check: &'a mut Check,
    device: Device,
    disk: Device,
    kind: u64,
    count: u64,
}

impl Trial<'_> {
    /// Sets the queue up, lets `spoil` fill it and notify, and checks that the device gave up, and that the disk works afterwards.
    fn breaks(&mut self, what: core::fmt::Arguments<'_>, features: u64, spoil: impl FnOnce(&Device)) {
        self.breaks_at(what, &Place::GOOD, features, spoil);
    }

    fn breaks_at(
        &mut self,
        what: core::fmt::Arguments<'_>,
        place: &Place,
        features: u64,
        spoil: impl FnOnce(&Device),
    ) {
        let Self { device, kind, .. } = *self;
        let ready = device.set_up(place, features);
        self.check.holds(format_args!("device {kind}: {what}: the queue is ready"), ready);
        spoil(&device);
        self.check.holds(format_args!("device {kind}: {what}: needs a reset"), device.needs_reset());
        let before = device.used();
        device.offer(0, 1);
        let silent = device.used() == before && device.needs_reset();
        self.check.holds(format_args!("device {kind}: {what}: does nothing until then"), silent);
        device.write(register::STATUS, 0);
        self.check.holds(format_args!("device {kind}: {what}: is reset"), device.read(register::STATUS) == 0);
        self.count += 1;
        let works = disk_works(&self.disk, self.count << 32 | kind);
        self.check.holds(format_args!("device {kind}: {what}: the disk works"), works);
    }
}

/// Sizes and places that no queue has: it does not become ready.
fn places(check: &mut Check, disk: &Device) {
    let good = Place::GOOD;
    for size in [0, 3, 7, 255, 257, 512, 65_535, 65_536, MOST_BYTES] {
        let ready = disk.set_up(&Place { size, ..good }, 0);
        check.holds(format_args!("a queue of {size} is refused"), !ready);
        disk.offer(0, 1);
        check.holds(format_args!("a queue of {size} does nothing"), disk.used() == 0);
    }
    let odd = [
        Place { descriptors: good.descriptors + 8, ..good },
        Place { driver: good.driver + 1, ..good },
        Place { device: good.device + 2, ..good },
        Place { descriptors: 1 << 52, ..good },
        Place { driver: u64::MAX - 1, ..good },
        Place { device: u64::MAX - 3, ..good },
    ];
    for (n, place) in odd.iter().enumerate() {
        check.holds(format_args!("odd place {n} is refused"), !disk.set_up(place, 0));
    }
    // What is in use stays where it is.
    check.holds(format_args!("a good queue is taken"), disk.set_up(&good, 0));
    disk.write(register::QUEUE_NUM, 3);
    disk.write(register::QUEUE_DESC, 0);
    disk.write(register::QUEUE_READY, 1);
    describe(TABLE, 0, DATA, 16, NEXT, 1);
    describe(TABLE, 1, DATA + 16, 1, WRITE, 0);
    queue::poke(DATA, 4); // FLUSH
    disk.offer(0, 1);
    check.holds(format_args!("a queue in use keeps its place"), disk.used() == 1 && !disk.needs_reset());
    // A queue that is not there.
    disk.write(register::QUEUE_SEL, 1);
    disk.write(register::QUEUE_READY, 1);
    check.holds(format_args!("there is no second queue"), disk.read(register::QUEUE_READY) == 0);
    for queue in [1, 31, 32, 64, MOST_BYTES] {
        disk.write(register::QUEUE_NOTIFY, queue);
    }
    check.holds(format_args!("a notice for no queue is ignored"), !disk.needs_reset());
}

/// Orders that no driver gives.
fn status_bits(check: &mut Check, disk: &Device) {
    disk.write(register::STATUS, 0);
    disk.write(register::QUEUE_SEL, 0);
    disk.write(register::QUEUE_NUM, SIZE);
    disk.write(register::QUEUE_READY, 1);
    check.holds(format_args!("no queue without features"), disk.read(register::QUEUE_READY) == 0);
    disk.write(register::STATUS, status::SEEN | status::DRIVER_OK | status::NEEDS_RESET);
    let now = disk.read(register::STATUS);
    check.one_of(format_args!("neither ready nor broken by the driver's word"), now, &[status::SEEN]);
    disk.write(register::DRIVER_FEATURES_SEL, 1);
    disk.write(register::DRIVER_FEATURES, MOST_BYTES);
    disk.write(register::STATUS, status::SEEN | status::FEATURES_OK);
    let agreed = disk.read(register::STATUS) & status::FEATURES_OK;
    check.holds(format_args!("all features at once are refused"), agreed == 0);
    check.holds(format_args!("the disk works after odd orders"), disk_works(disk, 1));
}

/// Chains that no device can follow.
fn chains(trial: &mut Trial<'_>) {
    // What the device reads, or fills where it only fills.
    let way = if trial.kind == id::ENTROPY { WRITE } else { 0 };
    let mut table = |what: &str, features: u64, descriptors: &[(u64, u64, u64, u64)]| {
        trial.breaks(format_args!("{what}"), features, |device| {
            for (n, &(at, len_bytes, flags, next)) in (0..).zip(descriptors) {
                describe(TABLE, n, at, len_bytes, flags, next);
            }
            device.offer(0, 1);
        });
    };
    let on = way | NEXT;
    table("a loop of one", 0, &[(DATA, 16, on, 0)]);
    table("a loop of two", 0, &[(DATA, 16, on, 1), (DATA, 16, on, 0)]);
    table("a loop of nothing", 0, &[(DATA, 0, on, 0)]);
    table("no such descriptor", 0, &[(DATA, 16, on, SIZE)]);
    table("far from any descriptor", 0, &[(DATA, 16, on, 0xffff)]);
    table("4 GiB", 0, &[(DATA, MOST_BYTES, on, 1), (DATA, 1, way, 0)]);
    table("8 GiB", 0, &[(DATA, MOST_BYTES, on, 1), (DATA, MOST_BYTES, way, 0)]);
    table("to be read behind to be written", 0, &[(DATA, 16, WRITE | NEXT, 1), (DATA, 16, 0, 0)]);
    table("a table that was not agreed on", 0, &[(INNER, 16, INDIRECT, 0)]);
    table("an empty table", INDIRECT_DESC, &[(INNER, 0, INDIRECT, 0)]);
    table("a table and a half", INDIRECT_DESC, &[(INNER, 24, INDIRECT, 0)]);
    table("a table of 15 bytes", INDIRECT_DESC, &[(INNER, 15, INDIRECT, 0)]);
    table("a table of 4 GiB", INDIRECT_DESC, &[(INNER, MOST_BYTES, INDIRECT, 0)]);
    table("a table and more", INDIRECT_DESC, &[(INNER, 16, INDIRECT | NEXT, 1), (DATA, 16, way, 0)]);
    table("a table that is this table", INDIRECT_DESC, &[(TABLE, 128, INDIRECT, 0)]);
    for at in OUTSIDE {
        trial.breaks(format_args!("a buffer at {at:#x}"), 0, |device| {
            describe(TABLE, 0, at, 64, way, 0);
            device.offer(0, 1);
        });
        trial.breaks(format_args!("a table at {at:#x}"), INDIRECT_DESC, |device| {
            describe(TABLE, 0, at, 64, INDIRECT, 0);
            device.offer(0, 1);
        });
    }
    let mut inner = |what: &str, descriptors: &[(u64, u64, u64, u64)]| {
        trial.breaks(format_args!("{what}"), INDIRECT_DESC, |device| {
            for (n, &(at, len_bytes, flags, next)) in (0..).zip(descriptors) {
                describe(INNER, n, at, len_bytes, flags, next);
            }
            describe(TABLE, 0, INNER, 16 * descriptors.len() as u64, INDIRECT, 0);
            device.offer(0, 1);
        });
    };
    inner("a table in a table", &[(INNER, 16, INDIRECT, 0)]);
    inner("a loop in a table", &[(DATA, 16, on, 1), (DATA, 16, on, 0)]);
    inner("out of a table", &[(DATA, 16, on, 2), (DATA, 16, way, 0)]);
}

/// Rings that lie about themselves, or where no memory is.
fn rings(trial: &mut Trial<'_>) {
    for head in [SIZE, 0x7fff, 0xffff] {
        trial.breaks(format_args!("head {head:#x}"), 0, |device| device.offer(head, 1));
    }
    for index in JUMPS {
        for features in [0, EVENT_IDX] {
            trial.breaks(format_args!("index {index:#x} features {features:#x}"), features, |device| {
                device.offer(0, index);
            });
        }
    }
    let good = Place::GOOD;
    let way = if trial.kind == id::ENTROPY { WRITE } else { 0 };
    let ends = [
        ("descriptors at the end of memory", Place { descriptors: RAM_END - 16, ..good }, 1),
        ("descriptors behind memory", Place { descriptors: RAM_END, ..good }, 0),
        ("an available ring behind memory", Place { driver: RAM_END, ..good }, 0),
        ("an available ring at the end of memory", Place { driver: RAM_END - 2, ..good }, 0),
        ("an available ring at a device", Place { driver: 0xd000_0000, ..good }, 0),
    ];
    for (what, place, head) in ends {
        trial.breaks_at(format_args!("{what}"), &place, 0, |device| device.offer(head, 1));
    }
    // The disk answers what it does not understand, a card wants a header: for them the chain must be right to come so far.
    for device_at in [RAM_END, RAM_END - 4, 0xd000_0000] {
        let place = Place { device: device_at, ..good };
        trial.breaks_at(format_args!("a used ring at {device_at:#x}"), &place, 0, |device| {
            // The console says it before it gives it back.
            queue::poke(DATA, u64::from_le_bytes(*b"the ring"));
            queue::poke(DATA + 8, u64::from_le_bytes(*b" is bad\n"));
            describe(TABLE, 0, DATA, 16, way | NEXT, 1);
            describe(TABLE, 1, DATA + 16, 1, WRITE, 0);
            device.offer(0, 1);
        });
    }
}

/// Requests to the disk that are chains, and no requests.
fn requests(trial: &mut Trial<'_>) {
    let disk = trial.device;
    let mut broken = |what: &str, descriptors: &[(u64, u64, u64, u64)]| {
        trial.breaks(format_args!("{what}"), 0, |device| {
            for (n, &(at, len_bytes, flags, next)) in (0..).zip(descriptors) {
                describe(TABLE, n, at, len_bytes, flags, next);
            }
            device.offer(0, 1);
        });
    };
    broken("only to be written", &[(DATA, 512, WRITE, 0)]);
    broken("no room for a status", &[(DATA, 16, 0, 0)]);
    broken("a header of 15 bytes", &[(DATA, 15, NEXT, 1), (DATA + 16, 1, WRITE, 0)]);
    broken("nothing at all", &[(DATA, 0, 0, 0)]);
    let status_at = DATA + 16;
    // Type, sector, bytes of data; the disk answers with an error, and goes on.
    let errors = [
        (0, u64::MAX, 512),
        (0, u64::MAX / 512, 512),
        (0, 1 << 40, 512),
        (0, 0, MOST_BYTES - 1),
        (0, 0, 511),
        (1, u64::MAX, 0),
        (2, 0, 512),
        (MOST_BYTES, 0, 512),
    ];
    for (kind, sector, len_bytes) in errors {
        disk.set_up(&Place::GOOD, 0);
        queue::poke(DATA, kind);
        queue::poke(DATA + 8, sector);
        queue::poke(status_at, 0xff);
        describe(TABLE, 0, DATA, 16, NEXT, 1);
        describe(TABLE, 1, DATA + 512, len_bytes, WRITE | NEXT, 2);
        describe(TABLE, 2, status_at, 1, WRITE, 0);
        disk.offer(0, 1);
        let answer = if disk.used() == 1 { queue::peek(status_at) & 0xff } else { u64::MAX };
        trial.check.one_of(
            format_args!("request {kind:#x} at {sector:#x} of {len_bytes:#x}"),
            answer,
            &[1, 2],
        );
    }
    trial.check.holds(format_args!("the disk works after all"), disk_works(&disk, 3));
}
