//! Reading COM2: postcard records, framed by COBS.

use hv_format::record::Record;

/// What came over COM2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// The records, in order.
    pub records: Vec<Record>,
    /// Frames that did not decode; the last one may have been cut off by the machine's end.
    pub broken_frames: usize,
}

/// Decodes all frames; one that is broken is counted and passed over.
pub fn decode(bytes: &[u8]) -> Telemetry {
    let mut telemetry = Telemetry::default();
    for (n, frame) in bytes.split(|byte| *byte == 0).enumerate().filter(|(_, frame)| !frame.is_empty()) {
        match postcard::from_bytes_cobs(&mut frame.to_vec()) {
            Ok(record) => telemetry.records.push(record),
            // What firmware said on the line: the hypervisor begins with a zero of its own.
            Err(_) if n == 0 => {}
            Err(_) => telemetry.broken_frames += 1,
        }
    }
    telemetry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_frame_costs_no_other_record() {
        let lost = |records| Record::Lost { records };
        let mut bytes = b"UEFI was here\0".to_vec();
        bytes.extend(postcard::to_allocvec_cobs(&lost(1)).unwrap());
        bytes.extend([9, 9, 9, 0]);
        bytes.extend(postcard::to_allocvec_cobs(&lost(300)).unwrap());
        let telemetry = decode(&bytes);
        assert_eq!(telemetry.records, [lost(1), lost(300)]);
        assert_eq!(telemetry.broken_frames, 1);
    }
}
