//! Power control: the two registers through which a guest without other hardware switches itself
//! off or asks to be reset (ACPI 6.5 §4.8.3.7 sleep control and status, §4.8.3.6 reset).

/// The sleep control register.
pub const SLEEP_CONTROL_PORT: u16 = 0x600;
/// The sleep status register.
pub const SLEEP_STATUS_PORT: u16 = 0x601;
/// The reset register.
pub const RESET_PORT: u16 = 0x602;
/// Ports in all.
pub const PORTS: u16 = 3;

/// What the guest writes to [`RESET_PORT`] to be reset.
pub const RESET_VALUE: u8 = 1;
/// The sleep type that means soft off, as the `_S5` object of the tables says.
pub const SLEEP_TYPE_OFF: u8 = 5;

/// `SLP_EN`: enter the sleep type in bits 2 to 4.
const SLEEP_ENABLE: u8 = 1 << 5;

/// What the guest asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Power off.
    Off,
    /// Reset.
    Reset,
}

/// What writing `value` to `port` asks for.
pub fn write(port: u16, value: u8) -> Option<Request> {
    let sleep_type = value >> 2 & 7;
    match port {
        SLEEP_CONTROL_PORT if value & SLEEP_ENABLE != 0 && sleep_type == SLEEP_TYPE_OFF => {
            Some(Request::Off)
        }
        RESET_PORT if value == RESET_VALUE => Some(Request::Reset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_off_needs_type_and_enable() {
        assert_eq!(
            write(SLEEP_CONTROL_PORT, SLEEP_TYPE_OFF << 2 | SLEEP_ENABLE),
            Some(Request::Off)
        );
        assert_eq!(write(SLEEP_CONTROL_PORT, SLEEP_TYPE_OFF << 2), None);
        assert_eq!(write(SLEEP_CONTROL_PORT, SLEEP_ENABLE), None);
    }

    #[test]
    fn reset_needs_its_value() {
        assert_eq!(write(RESET_PORT, RESET_VALUE), Some(Request::Reset));
        assert_eq!(write(RESET_PORT, 0), None);
    }
}
