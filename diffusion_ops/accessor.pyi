# Made by `python -m tests.make_stubs`.

from collections.abc import Callable, Hashable, Sequence
from inspect import Parameter
from numpy.typing import DTypeLike
from typing import Any, Generic, TypeVar, TypedDict, Unpack
from diffusion_ops.evolution.arguments import OneOrEach, OperatorLike, ScheduleLike, SpacingLike, TimeLike
from diffusion_ops.evolution.number_lists import NumbersOrStatistics
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.parameters import NumberOrStatistic
from diffusion_ops.evolution.problems.problem import Problem

I = TypeVar("I")

class _Evolution(TypedDict, total=False):
    time: OneOrEach[TimeLike]
    steps: OneOrEach[int]
    dt: OneOrEach[float]
    schedule: OneOrEach[ScheduleLike]
    spacing: SpacingLike | None
    channel_axis: Hashable | None
    mask: Any
    nodata: float | None
    dtype: DTypeLike | None
    batch: int | None
    guide: Any

class _Solution(TypedDict, total=False):
    markers: Any
    known: Any
    spacing: SpacingLike | None
    channel_axis: Hashable | None
    mask: Any
    nodata: float | None
    tolerance: float | None
    dtype: DTypeLike | None

def function_of(cls: type[Operator]) -> Callable[..., Any]: ...
def keywords_of(function: Callable[..., Any]) -> dict[str, Parameter]: ...

class DiffuseAccessor(Generic[I]):
    def __init__(self, image: I) -> None: ...
    def evolve(
        self,
        operator: OperatorLike | Sequence[OperatorLike],
        **how: Unpack[_Evolution],
    ) -> I:
        """Diffuse with an operator or a chain of them."""

    def solve(
        self,
        problem: Problem | str,
        **how: Unpack[_Solution],
    ) -> I:
        """Solve a problem of the whole image."""

    def additive_splitting(
        self,
        contrast: NumberOrStatistic | None = None,
        conductance: str = 'exponential',
        sigma: float = 0.0,
        partition: int = 64,
        form: str = 'truncated',
        **how: Unpack[_Evolution],
    ) -> I:
        """Diffusion ∂u/∂t = div(g(|∇u_sigma|) ∇u) in steps of u_new = 1/N Σ_l (I - N τ A_l(u))⁻¹ u, l the N axes."""

    def affine_curvature(
        self,
        **how: Unpack[_Evolution],
    ) -> I:
        """Affine morphological scale space, ∂u/∂t = |∇u| curv(u)^(1/3) = (|∇u|² u_ξξ)^(1/3)."""

    def allen_cahn(
        self,
        epsilon: float = 2.0,
        low: NumberOrStatistic = 'auto',
        high: NumberOrStatistic = 'auto',
        **how: Unpack[_Evolution],
    ) -> I:
        """Allen-Cahn equation, ∂u/∂t = Δu - W'(u) / ε², W the double well with its minima at two phases."""

    def canny(
        self,
        low: NumberOrStatistic = 'auto',
        high: NumberOrStatistic = 'auto',
        sigma: float = 1.0,
        joined: bool = True,
        **how: Unpack[_Evolution],
    ) -> I:
        """Edges of one cell's width, where |∇u_sigma| is largest across the edge: 1, and 0 elsewhere."""

    def chan_vese(
        self,
        thresholds: NumbersOrStatistics = 'auto',
        start_from: str = 'thresholds',
        means: NumbersOrStatistics = 'auto',
        every: int = 1,
        weight: NumberOrStatistic = 'auto',
        **how: Unpack[_Evolution],
    ) -> I:
        """Minimise ∫ |∇u| weight + ∫ (|f - c_1|² - |f - c_0|²) u over 0 <= u <= 1; the label is 1 where u is above 1/2."""

    def coherence(
        self,
        sigma: float = 1.0,
        rho: float = 3.0,
        normalised: bool = True,
        **how: Unpack[_Evolution],
    ) -> I:
        """Coherence ((μ1 - μ2) / (μ1 + μ2))² of the structure tensor: 1 where lines run one way, 0 where none stands out."""

    def coherence_enhancing(
        self,
        contrast: NumberOrStatistic = 1.0,
        sigma: float = 0.5,
        rho: float = 2.0,
        enhancement: str = 'ced',
        alpha: float = 0.01,
        exponent: int = 2,
        discretisation: str = 'www',
        stencil: float = 0.4,
        condition: float = 10.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Anisotropic diffusion that closes interrupted lines and flow-like patterns, ∂u/∂t = div(D ∇u)."""

    def components(
        self,
        connectivity: int = 3,
        **how: Unpack[_Evolution],
    ) -> I:
        """Number of the connected component of each cell: 1, 2, ... in the order of their first cells, row by row; 0 stays."""

    def curvature_diffusion(
        self,
        contrast: NumberOrStatistic,
        conductance: str = 'exponential',
        **how: Unpack[_Evolution],
    ) -> I:
        """Modified curvature diffusion equation, ∂u/∂t = |∇u| div(g(|∇u|) ∇u / |∇u|)."""

    def difference_of_gaussians(
        self,
        low_sigma: float = 1.0,
        high_sigma: float = 8.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Local contrast: the image smoothed a little, less the image smoothed much, in image units."""

    def edge_enhancing(
        self,
        contrast: NumberOrStatistic,
        conductance: str = 'rational',
        sigma: float = 0.5,
        rho: float = 0.0,
        enhancement: str = 'eed',
        alpha: float = 0.0,
        exponent: int = 2,
        discretisation: str = 'www',
        stencil: float = 0.4,
        condition: float = 10.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Anisotropic diffusion that stops across edges only, ∂u/∂t = div(D ∇u)."""

    def edge_stopping(
        self,
        contrast: NumberOrStatistic,
        conductance: str = 'exponential',
        sigma: float = 1.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Edge-stopping function of the smoothed image, g(|∇u_sigma|) between 0 at edges and 1 in flat areas."""

    def eikonal(
        self,
        image_is: str = 'speed',
        until: float | None = None,
        zero: str = 'refused',
        order: int = 1,
        **how: Unpack[_Solution],
    ) -> I:
        """Travel time from markers, |∇u| speed = 1 with u = 0 at the markers (fast marching)."""

    def extrema(
        self,
        of: str = 'maxima',
        distance: float = 3.0,
        height: float = 0.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Local extrema: 1 where no value for some way around is higher, or none is lower; 0 elsewhere."""

    def finite_element_heat(
        self,
        mass: str = 'lumped',
        **how: Unpack[_Evolution],
    ) -> I:
        """Linear diffusion, ∂u/∂t = Δu, in bilinear or trilinear elements whose nodes are the cells."""

    def finite_element_perona_malik(
        self,
        contrast: NumberOrStatistic,
        conductance: str = 'exponential',
        sigma: float = 0.0,
        mass: str = 'lumped',
        **how: Unpack[_Evolution],
    ) -> I:
        """Nonlinear isotropic diffusion, ∂u/∂t = div(g(|∇u_sigma|) ∇u), in bilinear or trilinear elements."""

    def fitzhugh_nagumo(
        self,
        diffusion: float = 0.5,
        other_diffusion: float = 5.0,
        white: NumberOrStatistic = 1.0,
        perturbation: float = 0.0,
        grain: int = 1,
        seed: int = 0,
        anisotropy: float = 0.0,
        sigma: float = 1.0,
        rho: float = 3.0,
        rate: float = 2.0,
        decay: float = 0.8,
        threshold: float = 0.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """FitzHugh-Nagumo reaction, ∂u/∂t = Du Δu + u - u³ - w and ∂w/∂t = Dw Δw + E (u - G w - B)."""

    def forward_backward(
        self,
        contrast: float,
        extent: float,
        diffusivity: str = 'exponential',
        ratio: float = 2.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Forward-and-backward (FAB) diffusion, ∂u/∂t = div(g(|∇u|) ∇u) with g negative in a band of slopes."""

    def geodesic_labels(
        self,
        by: str = 'gradient',
        sigma: float = 1.0,
        offset: float = 0.0,
        **how: Unpack[_Solution],
    ) -> I:
        """Label of the nearest marker by travel time, |∇u| = cost: geodesic Voronoi cells, or a seeded watershed."""

    def gradient_magnitude(
        self,
        sigma: float = 1.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Magnitude of the gradient of the smoothed image, |∇u_sigma|, in image units per unit length."""

    def gray_scott(
        self,
        diffusion: float = 0.1,
        other_diffusion: float = 0.2,
        white: NumberOrStatistic = 1.0,
        perturbation: float = 0.0,
        grain: int = 16,
        seed: int = 0,
        anisotropy: float = 0.0,
        sigma: float = 1.0,
        rho: float = 3.0,
        pattern: str = 'spots',
        feed: float | None = None,
        kill: float | None = None,
        **how: Unpack[_Evolution],
    ) -> I:
        """Gray-Scott reaction, ∂v/∂t = Dv Δv + u v² - (F + K) v and ∂u/∂t = Du Δu - u v² + F (1 - u)."""

    def heat(
        self,
        **how: Unpack[_Evolution],
    ) -> I:
        """Linear diffusion, ∂u/∂t = Δu: smoothing with a Gaussian of standard deviation sqrt(2 time)."""

    def inpainting(
        self,
        by: str = 'edge-enhancing',
        contrast: float = 0.004,
        sigma: float = 0.5,
        rho: float = 1.6,
        rounds: int = 32,
        neighbourhood: float = 5.0,
        **how: Unpack[_Solution],
    ) -> I:
        """Fill unknown pixels from the known ones around them."""

    def inverse_diffusion(
        self,
        **how: Unpack[_Evolution],
    ) -> I:
        """Stabilised inverse linear diffusion, ∂u/∂t = -Δu, the sharpening that an unsharp mask is one step of."""

    def mean_curvature(
        self,
        epsilon: float = 0.001,
        **how: Unpack[_Evolution],
    ) -> I:
        """Motion by mean curvature, ∂u/∂t = |∇u| div(∇u / |∇u|) = u_ξξ."""

    def min_max_curvature(
        self,
        stencil_radius: int = 2,
        epsilon: float = 0.001,
        **how: Unpack[_Evolution],
    ) -> I:
        """Min/max flow, ∂u/∂t = max(u_ξξ, 0) where the mean over a disk is below a threshold, else min(u_ξξ, 0)."""

    def morphological_chan_vese(
        self,
        thresholds: NumbersOrStatistics = 'auto',
        start_from: str = 'thresholds',
        means: NumbersOrStatistics = 'auto',
        every: int = 1,
        smoothing: int = 1,
        lambda1: float = 1.0,
        lambda2: float = 1.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Active contours without edges by morphological operators: 0 outside and 1 inside."""

    def morphological_geodesic_contour(
        self,
        thresholds: NumbersOrStatistics = 'auto',
        start_from: str = 'thresholds',
        smoothing: int = 1,
        balloon: float = 0.0,
        threshold: float = 0.5,
        **how: Unpack[_Evolution],
    ) -> I:
        """Geodesic active contours by morphological operators: 0 outside and 1 inside a contour that stops at edges."""

    def orientation(
        self,
        sigma: float = 1.0,
        rho: float = 3.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Angle of the direction in which the image varies least, in radians in [-π/2, π/2]."""

    def perona_malik(
        self,
        contrast: NumberOrStatistic,
        conductance: str = 'exponential',
        sigma: float = 0.0,
        neighbours: int | None = None,
        **how: Unpack[_Evolution],
    ) -> I:
        """Nonlinear isotropic diffusion, ∂u/∂t = div(g(|∇u_sigma|) ∇u)."""

    def random_noise(
        self,
        level: NumberOrStatistic,
        law: str = 'gaussian',
        seed: int = 0,
        low: NumberOrStatistic = 0.0,
        high: NumberOrStatistic = 255.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Noise that depends on the seed and on the place in the image alone, u -> u + level n(x) or another law."""

    def random_walker(
        self,
        beta: float = 130.0,
        deviation: NumberOrStatistic = 'auto',
        full_scale: NumberOrStatistic = 'auto',
        probabilities: bool = False,
        error_bound: float = 0.0,
        labels: int = 0,
        **how: Unpack[_Solution],
    ) -> I:
        """Segmentation by random walks from markers: sum of w (p - p_neighbour) = 0, p = 1 at a label's markers, else 0."""

    def salt_and_pepper(
        self,
        detection: str = 'extremes',
        pepper: NumberOrStatistic = 'auto',
        salt: NumberOrStatistic = 'auto',
        window: int = 39,
        contrast: NumberOrStatistic = 1.0,
        conductance: str = 'charbonnier',
        sigma: float = 0.5,
        rho: float = 1.6,
        **how: Unpack[_Evolution],
    ) -> I:
        """Removal of impulses: they are found once, and only they change, ∂u/∂t = div(D ∇u), towards the steady state."""

    def schnakenberg(
        self,
        diffusion: float = 1.0,
        other_diffusion: float = 10.0,
        white: NumberOrStatistic = 1.0,
        perturbation: float = 0.0,
        grain: int = 1,
        seed: int = 0,
        anisotropy: float = 0.0,
        sigma: float = 1.0,
        rho: float = 3.0,
        a: float = 0.1,
        b: float = 0.9,
        rate: float = 1.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Schnakenberg reaction, ∂u/∂t = Du Δu + R (a - u + u² v) and ∂v/∂t = Dv Δv + R (b - u² v)."""

    def shock(
        self,
        kind: str = 'weickert',
        sigma: float = 1.0,
        rho: float = 4.0,
        diffusion: float = 0.0,
        ramp: float = 0.0,
        refresh: int = 1,
        epsilon: float = 0.001,
        **how: Unpack[_Evolution],
    ) -> I:
        """Shock filter, ∂u/∂t = -sgn(L(u)) |∇u|: dilation where L < 0, erosion where L > 0, a jump in between."""

    def shortest_path(
        self,
        step: float = 0.5,
        **how: Unpack[_Solution],
    ) -> I:
        """Shortest paths from marked pixels to where a front began, dx/ds = -∇T / |∇T| on a map T of its times."""

    def signed_distance(
        self,
        level: float = 0.0,
        inside: str = 'below',
        until: float | None = None,
        order: int = 2,
        **how: Unpack[_Solution],
    ) -> I:
        """Distance from where the image crosses a level, |∇d| = 1, negative inside."""

    def speckle_reducing(
        self,
        level: NumberOrStatistic = 'auto',
        decay: float = 1.0,
        conductance: str = 'rational',
        **how: Unpack[_Evolution],
    ) -> I:
        """Diffusion that smooths speckle and stops at edges, ∂u/∂t = div(c(q) ∇u)."""

    def stain_separation(
        self,
        stains: str | Sequence[Sequence[float]] = 'hematoxylin-eosin',
        stain: str | int = 1,
        background: NumbersOrStatistics = 'auto',
        **how: Unpack[_Evolution],
    ) -> I:
        """Amount of one stain in a bright-field image: colour deconvolution of its optical densities (Beer-Lambert)."""

    def stochastic_heat(
        self,
        level: float = 1.0,
        seed: int = 0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Heat equation with additive space-time white noise, du = Δu dt + level dW (Edwards and Wilkinson)."""

    def threshold_dynamics(
        self,
        thresholds: NumbersOrStatistics = 'auto',
        start_from: str = 'thresholds',
        means: NumbersOrStatistics = 'auto',
        every: int = 1,
        classes: int = 2,
        data: str = 'linear',
        weight: NumberOrStatistic = 'auto',
        sigma: float = 2.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Segmentation into phases by threshold dynamics (MBO): minimise Σ_k ∫_{Σk} |f - c_k|² + weight · length."""

    def thresholding(
        self,
        classes: int = 2,
        thresholds: NumbersOrStatistics = 'auto',
        objects: str = 'bright',
        **how: Unpack[_Evolution],
    ) -> I:
        """Number of thresholds that a value is above, or not above: 0 or 1 with one threshold, 0 to n with n."""

    def total_variation(
        self,
        weight: NumberOrStatistic,
        **how: Unpack[_Evolution],
    ) -> I:
        """Minimise ∫ |∇u| + |u - f|² / (2 weight) over u, where f is the image (Rudin, Osher, Fatemi)."""

    def total_variation_flow(
        self,
        tolerance: float,
        inner_iterations: int = 20,
        **how: Unpack[_Evolution],
    ) -> I:
        """Steepest descent of the total variation, ∂u/∂t = div(∇u / |∇u|)."""

    def zero_crossings(
        self,
        sigma: float = 2.0,
        contrast: NumberOrStatistic = 0.0,
        **how: Unpack[_Evolution],
    ) -> I:
        """Zero crossings of the Laplacian of the smoothed image, Δu_sigma: 1 on edges, 0 elsewhere."""

