//! SecAgg+ against a server that deviates: thresholds with which every graph will do.
//!
//! A server that deviates may tell everybody another U_2, and choose who is lost, and the graph with the
//! seed. Let c members collude. To unmask u it needs t of its k holders, so that at least t − c honest ones
//! answer; u has masked with at least t, so that at least q = 2t − k − c of those who answer have. They are
//! in U_3, and have masked with all their neighbours in U_3, u among them. What tells nothing of these masks
//! weighs both ends of such an edge alike, and whoever answers like all its honest neighbours in U_3. On the
//! ring of a Harary graph u has h = ⌊k/2⌋ neighbours on either side, and one opposite if k is odd. If q > h,
//! or q > h + 1 for odd k, some of the q lie on both sides; so do those of the next, and so on around the
//! ring, in steps of at most h: every honest client in U_3 is a neighbour of one of them, and is weighed
//! alike. With 2t > k + ⌊k/2⌋ + c, and one more for odd k, the server therefore learns one sum over all
//! honest clients in U_3, or nothing, in every graph ([`SecAggPlusConfig::withstood_in_any_graph`]).

use super::SecAggPlusConfig;

impl SecAggPlusConfig {
    /// t.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.threshold.unwrap_or((2 * self.neighbours).div_ceil(3))
    }

    /// 2t that keeps a sum whole in every graph, without colluders.
    fn twice_for_any_graph(&self) -> usize {
        self.neighbours + self.neighbours % 2 + self.neighbours / 2 + 1
    }

    /// How many colluders, together with a server that deviates and chooses the graph, learn nothing but the
    /// sum over all survivors; `None` where not even the server alone. See the [module](self).
    #[must_use]
    pub fn withstood_in_any_graph(&self) -> Option<usize> {
        (2 * self.threshold()).checked_sub(self.twice_for_any_graph())
    }

    /// The smallest threshold with which that many are withstood, above `neighbours` where none is enough.
    #[must_use]
    pub fn least_for_any_graph(&self, colluders: usize) -> usize {
        (self.twice_for_any_graph() + colluders).div_ceil(2)
    }
}
