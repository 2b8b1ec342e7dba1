//! How what workers state comes to worker 0.

use crate::VecStream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

/// Brings a stream to worker 0, and hands it to `take`: what is of several epochs may come together. The stream that is returned is empty:
/// its frontier reports for which epochs all is there.
pub fn gather<'s, D>(stream: VecStream<'s, D>, name: &str, mut take: impl FnMut(&mut Vec<D>) + 'static) -> VecStream<'s, ()>
where
    D: Clone + Send + serde::Serialize + for<'de> serde::Deserialize<'de> + 'static,
{
    stream.unary(Exchange::new(|_: &D| 0), name, |_, _| {
        move |input, output| {
            input.for_each(|capability, data| {
                take(data);
                output.session(&capability).give_container(&mut Vec::<()>::new());
            });
        }
    })
}
