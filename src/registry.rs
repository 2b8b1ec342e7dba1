//! The dataflows that there are: the one place that names them.

use retally_core::contract::Dataflow;

/// All dataflows. Their order is that of help texts.
pub fn dataflows() -> &'static [&'static dyn Dataflow] {
    &[&retally_online::Online, &retally_usage::Usage, &retally_brushing::Brushing, &retally_active::Active, &retally_sensors::Sensors]
}

/// What a demonstration shows unless it is told otherwise.
pub const DEMO: [&str; 4] = ["online", "usage", "active", "sensors"];

/// What a demonstration generates of a dataflow, where that is not what its generator does by itself: enough for half an hour.
pub fn demo_options(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "online" => &[("devices", "300"), ("days", "240"), ("late", "600")],
        "usage" => &[("devices", "60"), ("days", "240"), ("late", "400")],
        "brushing" => &[("minutes", "0.5"), ("late", "4")],
        "active" => &[("users", "150"), ("days", "120"), ("events-per-day", "60"), ("late", "200")],
        "sensors" => &[("sensors", "12"), ("interval", "900"), ("late", "300")],
        _ => &[],
    }
}

/// The dataflow of this name.
pub fn dataflow(name: &str) -> Option<&'static dyn Dataflow> {
    dataflows().iter().copied().find(|dataflow| dataflow.definition().name == name)
}
