//! What a Redis store tells about its server: whether it serves, what it says of itself, what the data takes, and what
//! is wrong with it.

mod doctor;
mod health_check;
mod permissions;
mod server_info;
