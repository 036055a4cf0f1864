//! What slides over an image: the geometry that convolution and pooling share.

use burn::nn::PaddingConfig2d;

/// Windows of an image, by rows and columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Windows {
    /// Height and width of the image.
    pub image: [usize; 2],
    /// Height and width of a window.
    pub size: [usize; 2],
    pub stride: [usize; 2],
    /// Rows above and columns left of the image.
    pub before: [usize; 2],
    /// Rows below and columns right of it.
    pub after: [usize; 2],
    /// Number of windows below and beside each other.
    pub count: [usize; 2],
}

impl Windows {
    /// `None` where the padding is as long as a window, or no window fits.
    pub fn new(
        image: [usize; 2],
        size: [usize; 2],
        stride: [usize; 2],
        padding: &PaddingConfig2d,
    ) -> Option<Self> {
        let (before, after) = match *padding {
            PaddingConfig2d::Valid => ([0; 2], [0; 2]),
            PaddingConfig2d::Explicit(top, left, bottom, right) => ([top, left], [bottom, right]),
            PaddingConfig2d::Same => {
                let total: [usize; 2] = std::array::from_fn(|i| {
                    let end = (image[i].div_ceil(stride[i]).max(1) - 1) * stride[i] + size[i];
                    end.saturating_sub(image[i])
                });
                (total.map(|total| total / 2), total.map(|total| total.div_ceil(2)))
            }
        };
        let fits = |i: usize| {
            let whole = image[i] + before[i] + after[i];
            image[i] > 0 && before[i] < size[i] && after[i] < size[i] && whole >= size[i]
        };
        (fits(0) && fits(1)).then(|| {
            let whole = |i: usize| image[i] + before[i] + after[i];
            let count = std::array::from_fn(|i| (whole(i) - size[i]) / stride[i] + 1);
            Self { image, size, stride, before, after, count }
        })
    }

    /// Height and width with the padding.
    pub fn padded(&self) -> [usize; 2] {
        std::array::from_fn(|i| self.image[i] + self.before[i] + self.after[i])
    }

    /// The number of pixels of an image.
    #[cfg(feature = "flex")]
    pub fn pixels(&self) -> usize {
        self.image[0] * self.image[1]
    }

    /// The number of windows of an image.
    pub fn windows(&self) -> usize {
        self.count[0] * self.count[1]
    }
}
