//! The dataflows that there are: the one place that names them.

use retally_core::contract::Dataflow;

/// All dataflows. Their order is that of help texts.
pub fn dataflows() -> &'static [&'static dyn Dataflow] {
    &[&retally_online::Online, &retally_usage::Usage, &retally_brushing::Brushing, &retally_active::Active, &retally_sensors::Sensors]
}

/// The dataflow of this name.
pub fn dataflow(name: &str) -> Option<&'static dyn Dataflow> {
    dataflows().iter().copied().find(|dataflow| dataflow.definition().name == name)
}
