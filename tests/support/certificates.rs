//! Certificates of `localhost`, by which servers of a test are told.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

/// A certificate and its key. One `is_over` long ago.
pub fn of_localhost(is_over: bool) -> (String, String) {
    let mut params = CertificateParams::new(["localhost".to_string()]).unwrap();
    if is_over {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    }
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}
