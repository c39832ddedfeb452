//! What answers evaluation requests: native, replay, container.
