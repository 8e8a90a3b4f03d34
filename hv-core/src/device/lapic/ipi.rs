//! Interprocessor interrupts: the meaning of an ICR value. SDM vol 3A §11.6 and §11.12.9, §11.12.10.

use super::LOWEST_LEGAL_VECTOR;

/// The receivers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The processor with this x2APIC id; all of them for 0xFFFF_FFFF.
    Physical(u32),
    /// Cluster in bits 31:16, one bit for each of its 16 processors in bits 15:0; all for 0xFFFF_FFFF.
    Logical(u32),
    /// The processors with one of these bits in their logical id, in the flat model of the old mode.
    Flat(u8),
    /// All processors, the sender included.
    All,
    /// All processors but the sender.
    Others,
}

/// The event that the receivers get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpiDelivery {
    /// This vector, 16 … 255.
    Fixed(u8),
    /// This vector, to one of the receivers.
    LowestPriority(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// INIT: reset and wait for a start-up.
    Init,
    /// Start-up at page `0` … `255` of memory; ignored by processors that do not wait for it.
    StartUp(u8),
}

/// One interprocessor interrupt, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipi {
    /// The receivers.
    pub to: Destination,
    /// The event that the receivers get.
    pub delivery: IpiDelivery,
}

impl Ipi {
    /// Decodes an IPI sent in the old mode: destinations are 8 bits wide.
    pub const fn of_old_mode(self) -> Self {
        Self { to: self.to.of_old_mode(), ..self }
    }
}

impl IpiDelivery {
    /// What an ICR value asks for, whoever it is meant for; `None` where it asks for nothing.
    pub const fn without_destination(icr: u64) -> Option<Self> {
        match IpiRequest::decode(icr & !(3 << 18)) {
            IpiRequest::Send(ipi) => Some(ipi.delivery),
            IpiRequest::ToSelf(_) | IpiRequest::IllegalVector | IpiRequest::Nothing => None,
        }
    }
}

impl Destination {
    /// The same, with an id of 8 bits.
    pub const fn of_old_mode(self) -> Self {
        match self {
            Self::Physical(id) if id & 0xff == 0xff => Self::All,
            Self::Physical(id) => Self::Physical(id & 0xff),
            Self::Logical(mask) => Self::Flat(mask.to_le_bytes()[0]),
            Self::Flat(_) | Self::All | Self::Others => self,
        }
    }
}

/// Meaning of a write to ICR, independent of the sender's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IpiRequest {
    Send(Ipi),
    ToSelf(u8),
    IllegalVector,
    /// A combination without an effect: INIT de-assert, SMI, the reserved modes, self with anything but fixed.
    Nothing,
}

/// Bits of ICR that must be zero in x2APIC mode; bit 12, busy in the old mode, is written as read and dropped.
pub(super) const ICR_RESERVED: u64 = 0xFFF3_2000;
/// The former delivery status.
pub(super) const ICR_BUSY: u64 = 1 << 12;
/// Delivery mode and shorthand.
const ICR_UNCOMMON: u64 = 7 << 8 | 3 << 18;
const ICR_LOGICAL: u64 = 1 << 11;
const ICR_ASSERT: u64 = 1 << 14;
const ICR_LEVEL: u64 = 1 << 15;
const BROADCAST: u32 = u32::MAX;

impl IpiRequest {
    /// Decodes an ICR value whose reserved bits are zero.
    #[inline]
    pub(super) const fn decode(icr: u64) -> Self {
        let [vector, _, _, _, d0, d1, d2, d3] = icr.to_le_bytes();
        let target = u32::from_le_bytes([d0, d1, d2, d3]);
        if icr & ICR_UNCOMMON == 0 && vector >= LOWEST_LEGAL_VECTOR {
            // Nearly all: fixed, to one or to a set.
            let to = if icr & ICR_LOGICAL != 0 {
                Destination::Logical(target)
            } else {
                Destination::Physical(target)
            };
            return Self::Send(Ipi { to, delivery: IpiDelivery::Fixed(vector) });
        }
        Self::decode_uncommon(icr, vector, target)
    }

    #[inline(never)]
    const fn decode_uncommon(icr: u64, vector: u8, target: u32) -> Self {
        let delivery = match icr >> 8 & 7 {
            0 | 1 if vector < LOWEST_LEGAL_VECTOR => return Self::IllegalVector,
            0 => IpiDelivery::Fixed(vector),
            1 => IpiDelivery::LowestPriority(vector),
            4 => IpiDelivery::Nmi,
            5 if icr & ICR_LEVEL != 0 && icr & ICR_ASSERT == 0 => return Self::Nothing,
            5 => IpiDelivery::Init,
            6 => IpiDelivery::StartUp(vector),
            _ => return Self::Nothing,
        };
        let to = match icr >> 18 & 3 {
            0 if icr & ICR_LOGICAL != 0 => Destination::Logical(target),
            0 => Destination::Physical(target),
            1 => {
                return match delivery {
                    IpiDelivery::Fixed(vector) => Self::ToSelf(vector),
                    IpiDelivery::LowestPriority(_)
                    | IpiDelivery::Nmi
                    | IpiDelivery::Init
                    | IpiDelivery::StartUp(_) => Self::Nothing,
                };
            }
            2 => Destination::All,
            _ => Destination::Others,
        };
        Self::Send(Ipi { to, delivery })
    }
}

/// The logical x2APIC id that hardware derives from the id (SDM §11.12.10.2).
pub const fn logical_id(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 15)
}

impl Destination {
    /// The receivers among processors 0 … `count` - 1, at most 64 of them, as a bit map by id; no loop. For the flat model the
    /// caller must ask each processor.
    #[inline]
    pub const fn receivers(self, sender: u32, count: u32) -> u64 {
        let everybody = if count >= 64 { u64::MAX } else { (1 << count) - 1 };

        everybody
            & match self {
                Self::Physical(BROADCAST) | Self::Logical(BROADCAST) | Self::All => u64::MAX,
                Self::Physical(id) => one(id),
                Self::Logical(mask) if mask >> 16 < 4 => ((mask & 0xFFFF) as u64) << ((mask >> 16) * 16),
                Self::Logical(_) | Self::Flat(_) => 0,
                Self::Others => !one(sender),
            }
    }
}

const fn one(id: u32) -> u64 {
    if id < 64 { 1 << id } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether a message of `sender` is meant for `receiver`; both are x2APIC ids.
    const fn matches(to: Destination, sender: u32, receiver: u32) -> bool {
        match to {
            Destination::Physical(BROADCAST) | Destination::Logical(BROADCAST) | Destination::All => true,
            Destination::Physical(id) => id == receiver,
            Destination::Logical(mask) => {
                let own = logical_id(receiver);
                mask >> 16 == own >> 16 && mask & own & 0xFFFF != 0
            }
            Destination::Flat(_) => false,
            Destination::Others => sender != receiver,
        }
    }

    #[test]
    fn what_linux_writes_means_what_linux_means() {
        let send = |to, delivery| IpiRequest::Send(Ipi { to, delivery });
        let cases = [
            // RESCHEDULE_VECTOR to one, physical and logical: `__x2apic_send_IPI_dest`.
            (0x0000_0003_0000_00FD, send(Destination::Physical(3), IpiDelivery::Fixed(0xFD))),
            (0x0001_0002_0000_08FD, send(Destination::Logical(0x1_0002), IpiDelivery::Fixed(0xFD))),
            // NMI to all but self: `__x2apic_send_IPI_shorthand`.
            (0xC_0400, send(Destination::Others, IpiDelivery::Nmi)),
            (0x8_00FB, send(Destination::All, IpiDelivery::Fixed(0xFB))),
            (0x4_00F6, IpiRequest::ToSelf(0xF6)),
            // `wakeup_secondary_cpu_via_init`: INIT assert, de-assert, start-up at 0x9A000.
            (0x0000_0001_0000_C500, send(Destination::Physical(1), IpiDelivery::Init)),
            (0x0000_0001_0000_8500, IpiRequest::Nothing),
            (0x0000_0001_0000_069A, send(Destination::Physical(1), IpiDelivery::StartUp(0x9A))),
            (0x0000_0001_0000_0105, IpiRequest::IllegalVector),
            (0x4_0400, IpiRequest::Nothing),
        ];
        for (icr, meaning) in cases {
            assert_eq!(IpiRequest::decode(icr), meaning, "icr={icr:#x}");
            assert_eq!(icr & ICR_RESERVED, 0, "icr={icr:#x}");
        }
    }

    proptest! {
        #[test]
        fn the_bit_map_and_the_single_question_agree(icr: u64, sender in 0_u32..64, count in 1_u32..65) {
            let narrowed = icr & if icr & 1 == 0 { 0x0007_000F_FFFF_FFFF } else { u64::MAX };
            if let IpiRequest::Send(ipi) = IpiRequest::decode(narrowed) {
                let map = ipi.to.receivers(sender, count);
                for receiver in 0..64 {
                    let told = receiver < count && matches(ipi.to, sender, receiver);
                    prop_assert_eq!(map >> receiver & 1 != 0, told);
                }
            }
        }
    }
}
