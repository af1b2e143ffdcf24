//! The commands, a file for each, or for each few that do one thing.

pub mod check;
pub mod completion;
pub mod cp;
pub mod create;
pub mod doctor;
pub mod exec;
pub mod generate;
pub mod inspect;
pub mod logs;
pub mod man;
pub mod metrics;
pub mod monitor;
pub mod pause;
pub mod port;
pub mod ps;
pub mod rm;
pub mod run;
pub mod schema;
pub mod signal;
pub mod start;
pub mod stats;
pub mod stop;
pub mod top;
pub mod update;
pub mod version;
pub mod wait;
