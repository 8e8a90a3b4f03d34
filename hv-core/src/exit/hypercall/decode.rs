//! Decodes registers into a checked call. No function here changes any state.

use crate::base::addr::GuestPhys;
use crate::base::hardware::GuestRam;
use crate::base::id::VcpuIndex;
use crate::guest::guest::Guest;
use crate::guest::platform::{Platform, State};
use crate::guest::seam::{CpuRegisters, Reg};
use crate::policy::trace::Ending;
use crate::policy::vcpu_shared::{SharedFrames, VcpuShared};
use pv_abi::call::{
    CONSOLE_MAX_BYTES, Call, Code, ConsoleOp, EventOp, IPI_NMI, MEMORY_BLOCK_BYTES, MEMORY_MAX_BLOCKS,
    MemoryOp, Shutdown, Stat,
};
use pv_abi::table::Table;

/// A call whose arguments are all in range.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants are the calls of pv_abi::call, the fields their arguments")]
pub enum Hypercall {
    Register { event_vector: u8 },
    Map { frames: SharedFrames, writable: bool, at: GuestPhys },
    Unregister,
    Block { mask: u64 },
    YieldTo { target: &'static VcpuShared, seq: u64 },
    Kick(&'static VcpuShared),
    Arm,
    Ring { channel: u8 },
    Bind { channel: u8, vcpu: VcpuIndex, event: u8 },
    Query { channel: u8 },
    Interrupt { target: &'static VcpuShared, vector: u8 },
    Nmi(&'static VcpuShared),
    Stats { item: Stat, vcpu: &'static VcpuShared },
    ConsoleWrite { at: GuestPhys, len: usize },
    ConsoleRead { at: GuestPhys, len: usize },
    ConsoleFlush,
    Give { first: u64, count: u64 },
    Take { block: u64 },
    Given,
    Start { target: &'static VcpuShared, entry: u64, stack: u64, argument: u64 },
    Stop(&'static VcpuShared),
    State(&'static VcpuShared),
    Shutdown(Ending),
    Mark { id: u64, value: u64 },
}

/// Why a call is refused, with what was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The number in RAX is no call's.
    NoSuchCall(u64),
    /// An argument is out of range.
    BadArgument(u64),
    /// The guest has no vCPU of this index.
    NoSuchVcpu(u64),
    /// The guest has no such table or channel.
    NotThere(u64),
    /// An address is not canonical, not aligned, or not where it must be.
    BadAddress(u64),
    /// The call or table is known, but not offered.
    NotSupported(u64),
}

impl From<Refusal> for Code {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchCall(_) => Self::NO_SUCH_CALL,
            Refusal::BadArgument(_) => Self::BAD_ARGUMENT,
            Refusal::NoSuchVcpu(_) => Self::NO_SUCH_VCPU,
            Refusal::NotThere(_) => Self::NOT_THERE,
            Refusal::BadAddress(_) => Self::BAD_ADDRESS,
            Refusal::NotSupported(_) => Self::NOT_SUPPORTED,
        }
    }
}

/// Lowest vector that a guest may send: vectors below it are exceptions.
const LOWEST_VECTOR: u64 = 32;

/// Checks a call's arguments.
///
/// # Errors
///
/// Returns the first argument that is wrong, with the reason.
#[inline]
pub fn decode<P: Platform>(state: &State<P>, guest: &'static Guest<P::Ram>) -> Result<Hypercall, Refusal> {
    let number = state.reg(Reg::Rax);
    let (rdi, rsi, rdx) = (state.reg(Reg::Rdi), state.reg(Reg::Rsi), state.reg(Reg::Rdx));
    let vcpu = |index| guest.vcpu(index).ok_or(Refusal::NoSuchVcpu(index));
    Ok(match Call(number) {
        Call::REGISTER => {
            let vector = u8::try_from(rsi).ok().filter(|_| rsi == 0 || rsi >= LOWEST_VECTOR);
            if rdi > u64::from(pv_abi::VERSION.minor) {
                return Err(Refusal::BadArgument(rdi));
            }
            Hypercall::Register { event_vector: vector.ok_or(Refusal::BadArgument(rsi))? }
        }
        Call::MAP => {
            let (frames, writable) = table(guest, Table(rdi))?;
            let at = GuestPhys::new(rsi).filter(|at| at.is_aligned(4096)).ok_or(Refusal::BadAddress(rsi))?;
            Hypercall::Map { frames, writable, at }
        }
        Call::UNREGISTER => Hypercall::Unregister,
        Call::BLOCK => Hypercall::Block { mask: rdi },
        Call::YIELD_TO => Hypercall::YieldTo { target: vcpu(rdi)?, seq: rsi },
        Call::KICK => Hypercall::Kick(vcpu(rdi)?),
        Call::ARM => Hypercall::Arm,
        Call::EVENT => event(guest, rdi, rsi, rdx)?,
        Call::IPI if rsi == IPI_NMI => Hypercall::Nmi(vcpu(rdi)?),
        Call::IPI => {
            let vector = u8::try_from(rsi).ok().filter(|_| rsi >= LOWEST_VECTOR);
            Hypercall::Interrupt { target: vcpu(rdi)?, vector: vector.ok_or(Refusal::BadArgument(rsi))? }
        }
        Call::STATS if Stat::ALL.iter().any(|(item, _)| item.0 == rdi) => {
            Hypercall::Stats { item: Stat(rdi), vcpu: vcpu(rsi)? }
        }
        Call::STATS => return Err(Refusal::BadArgument(rdi)),
        Call::CONSOLE => console(rdi, rsi, rdx)?,
        Call::VCPU_START => {
            for address in [rsi, rdx] {
                if !is_canonical(address) {
                    return Err(Refusal::BadAddress(address));
                }
            }
            Hypercall::Start { target: vcpu(rdi)?, entry: rsi, stack: rdx, argument: state.reg(Reg::R10) }
        }
        Call::VCPU_STOP => Hypercall::Stop(vcpu(rdi)?),
        Call::VCPU_STATE => Hypercall::State(vcpu(rdi)?),
        Call::SHUTDOWN => Hypercall::Shutdown(match Shutdown(rdi) {
            Shutdown::OFF => Ending::Off,
            Shutdown::REBOOT => Ending::Reboot,
            Shutdown::CRASH => Ending::Crash,
            _ => return Err(Refusal::BadArgument(rdi)),
        }),
        Call::MARK => Hypercall::Mark { id: rdi, value: rsi },
        Call::MEMORY => memory(rdi, rsi, rdx)?,
        Call::SHARE => return Err(Refusal::NotSupported(number)),
        _ => return Err(Refusal::NoSuchCall(number)),
    })
}

fn table<R: GuestRam>(guest: &'static Guest<R>, table: Table) -> Result<(SharedFrames, bool), Refusal> {
    match table {
        Table::DEMAND => Ok((guest.tables.demand, true)),
        Table::STATUS => Ok((guest.tables.status, false)),
        Table::EVENT => Ok((guest.tables.event, true)),
        Table::CONSOLE => Ok((guest.tables.console, true)),
        Table::BOARD => Err(Refusal::NotSupported(table.0)),
        Table(number) => {
            let channel = number.checked_sub(Table::CHANNEL_0.0).ok_or(Refusal::NotThere(number))?;
            let channel = usize::try_from(channel).ok().and_then(|channel| guest.channels.get(channel));
            channel.map(|end| (end.frames, true)).ok_or(Refusal::NotThere(number))
        }
    }
}

fn event<R: GuestRam>(guest: &'static Guest<R>, op: u64, rsi: u64, rdx: u64) -> Result<Hypercall, Refusal> {
    let channel = u8::try_from(rsi).ok().filter(|channel| usize::from(*channel) < guest.channels.len());
    let channel = channel.ok_or(Refusal::NotThere(rsi));
    match EventOp(op) {
        EventOp::RING => Ok(Hypercall::Ring { channel: channel? }),
        EventOp::QUERY => Ok(Hypercall::Query { channel: channel? }),
        EventOp::BIND => {
            let [index, event, rest @ ..] = rdx.to_le_bytes();
            guest.vcpu(u64::from(index)).ok_or(Refusal::NoSuchVcpu(u64::from(index)))?;
            if event >= 64 || rest != [0; 6] {
                return Err(Refusal::BadArgument(rdx));
            }
            Ok(Hypercall::Bind { channel: channel?, vcpu: VcpuIndex(index), event })
        }
        _ => Err(Refusal::BadArgument(op)),
    }
}

fn console(op: u64, rsi: u64, rdx: u64) -> Result<Hypercall, Refusal> {
    let range = || {
        let at = GuestPhys::new(rsi).ok_or(Refusal::BadAddress(rsi))?;
        let len = usize::try_from(rdx).ok().filter(|_| rdx <= CONSOLE_MAX_BYTES);
        Ok((at, len.ok_or(Refusal::BadArgument(rdx))?))
    };
    match ConsoleOp(op) {
        ConsoleOp::WRITE => range().map(|(at, len)| Hypercall::ConsoleWrite { at, len }),
        ConsoleOp::READ => range().map(|(at, len)| Hypercall::ConsoleRead { at, len }),
        ConsoleOp::FLUSH => Ok(Hypercall::ConsoleFlush),
        _ => Err(Refusal::BadArgument(op)),
    }
}

fn memory(op: u64, rsi: u64, rdx: u64) -> Result<Hypercall, Refusal> {
    let aligned = rsi.is_multiple_of(MEMORY_BLOCK_BYTES);
    let block = aligned.then_some(rsi / MEMORY_BLOCK_BYTES).ok_or(Refusal::BadAddress(rsi));
    match MemoryOp(op) {
        MemoryOp::GIVE if (1..=MEMORY_MAX_BLOCKS).contains(&rdx) => {
            Ok(Hypercall::Give { first: block?, count: rdx })
        }
        MemoryOp::GIVE => Err(Refusal::BadArgument(rdx)),
        MemoryOp::TAKE => Ok(Hypercall::Take { block: block? }),
        MemoryOp::QUERY => Ok(Hypercall::Given),
        _ => Err(Refusal::BadArgument(op)),
    }
}

/// Whether bits 63:47 are all equal.
const fn is_canonical(address: u64) -> bool {
    let upper = address >> 47;
    upper == 0 || upper == 0x1_ffff
}
