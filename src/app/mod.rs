//! Configuration, wiring, commands.
