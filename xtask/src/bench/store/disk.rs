//! What the disk allows: the bytes of so many messages, appended and forced to disk, again and again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::fdatasync;

/// The median of them counts.
const SLICES: usize = 5;
const SLICE: Duration = Duration::from_millis(400);
/// Written once before, as a broker can do as well: the flush then has nothing but data to write.
const FILE_BYTES: usize = 64 << 20;

/// Messages in a second, if all that are in flight share a flush.
pub(crate) fn flushed_messages_per_second(dir: &Path, in_flight: usize, record_bytes: usize) -> anyhow::Result<f64> {
    let path = dir.join("flush-limit");
    let file = File::create(&path)?;
    file.write_all_at(&vec![0; FILE_BYTES], 0)?;
    file.sync_all()?;
    let records = vec![b'x'; in_flight * record_bytes];
    let mut at = 0;
    let mut rates = Vec::new();
    for _ in 0..SLICES {
        let (started, mut flushes) = (Instant::now(), 0_u32);
        while started.elapsed() < SLICE {
            if at + records.len() > FILE_BYTES {
                at = 0;
            }
            file.write_all_at(&records, at as u64)?;
            fdatasync(&file)?;
            at += records.len();
            flushes += 1;
        }
        rates.push(f64::from(flushes) * in_flight as f64 / started.elapsed().as_secs_f64());
    }
    std::fs::remove_file(&path)?;
    rates.sort_by(f64::total_cmp);
    Ok(rates[SLICES / 2])
}
