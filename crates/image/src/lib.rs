//! midflight
