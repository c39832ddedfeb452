//! Empty: everything is in the test binary `it`.
