//! The store through its public interface, on the real disk and on the simulated one.

mod crash;
mod faults;
mod queue;
mod real_disk;
mod support;
