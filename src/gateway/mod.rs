//! Listeners and drivers.
