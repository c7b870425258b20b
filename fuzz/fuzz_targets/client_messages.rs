// The target `client_messages`: what it reads and which laws hold is in `fuzzing.rs` of the crate that has it.
#![no_main]

millstream_fuzz::fuzz!("client_messages");
