//! The store through its public interface, on the real disk and on the simulated one.

#[cfg(test)]
mod cold;
#[cfg(test)]
mod compaction;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod filtered;
#[cfg(test)]
mod flips;
#[cfg(test)]
mod java_timers;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod offline;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod quiet;
#[cfg(test)]
mod real_disk;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod scan;
#[cfg(test)]
mod scrub;
#[cfg(test)]
mod support;
#[cfg(test)]
mod taken_over;
#[cfg(test)]
mod timer;
