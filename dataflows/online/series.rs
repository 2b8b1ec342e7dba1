//! What is counted per day: the names of the series that go through one counting operator to several tables.

use retally_core::operators::rolling::Window;
use serde::{Deserialize, Serialize};

/// What is counted per day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Series {
    /// Devices, by window and bucket of the fleet's size.
    Fleet(Window, u16),
    /// Devices, whoever their users.
    Devices,
    /// Users.
    Users,
    /// Devices that are online for the first time.
    NewDevices,
    /// Parts of [`Hours`].
    Hours(Hours),
}

/// What is summed up over devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hours {
    /// Devices online all day.
    WholeDays,
    /// Microseconds of devices online for a part of the day.
    Parts,
    /// Devices that are online and have not ended to be; on any day.
    Open,
}
