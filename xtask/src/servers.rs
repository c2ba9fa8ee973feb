//! Starting and stopping the servers under test.
