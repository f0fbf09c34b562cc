# Made by `python -m tests.make_stubs`.

from diffusion_ops.accessor import DiffuseAccessor as DiffuseAccessor
from diffusion_ops.blocks.block import Block as Block
from diffusion_ops.blocks.statistic import STATISTICS as STATISTICS
from diffusion_ops.blocks.statistic import Statistic as Statistic
from diffusion_ops.ensemble import Ensemble as Ensemble
from diffusion_ops.ensemble import combine as combine
from diffusion_ops.ensemble import ensemble as ensemble
from diffusion_ops.evolution.adaptive import Adaptive as Adaptive
from diffusion_ops.evolution.advance import advance as advance
from diffusion_ops.evolution.legs import Leg as Leg
from diffusion_ops.evolution.legs import total_halo as total_halo
from diffusion_ops.evolution.operator import Iteration as Iteration
from diffusion_ops.evolution.operator import Map as Map
from diffusion_ops.evolution.operator import OPERATORS as OPERATORS
from diffusion_ops.evolution.operator import Operator as Operator
from diffusion_ops.evolution.operator import RateOperator as RateOperator
from diffusion_ops.evolution.operator import register as register
from diffusion_ops.evolution.parameters import Choice as Choice
from diffusion_ops.evolution.parameters import Count as Count
from diffusion_ops.evolution.parameters import Number as Number
from diffusion_ops.evolution.parameters import Parameter as Parameter
from diffusion_ops.evolution.parameters import parameter as parameter
from diffusion_ops.evolution.problems.problem import Problem as Problem
from diffusion_ops.evolution.problems.problem import Setting as Setting
from diffusion_ops.evolution.schedule import Cycle as Cycle
from diffusion_ops.evolution.schedule import Cycles as Cycles
from diffusion_ops.evolution.schedule import Explicit as Explicit
from diffusion_ops.evolution.schedule import Schedule as Schedule
from diffusion_ops.evolve import evolve as evolve
from diffusion_ops.operators.additive_splitting import AdditiveSplitting as AdditiveSplitting
from diffusion_ops.operators.affine_curvature import AffineCurvature as AffineCurvature
from diffusion_ops.operators.allen_cahn import AllenCahn as AllenCahn
from diffusion_ops.operators.canny import Canny as Canny
from diffusion_ops.operators.chan_vese import ChanVese as ChanVese
from diffusion_ops.operators.coherence import Coherence as Coherence
from diffusion_ops.operators.coherence_enhancing import CoherenceEnhancing as CoherenceEnhancing
from diffusion_ops.operators.components import Components as Components
from diffusion_ops.operators.curvature_diffusion import CurvatureDiffusion as CurvatureDiffusion
from diffusion_ops.operators.difference_of_gaussians import DifferenceOfGaussians as DifferenceOfGaussians
from diffusion_ops.operators.edge_enhancing import EdgeEnhancing as EdgeEnhancing
from diffusion_ops.operators.edge_stopping import EdgeStopping as EdgeStopping
from diffusion_ops.operators.eikonal import Eikonal as Eikonal
from diffusion_ops.operators.extrema import Extrema as Extrema
from diffusion_ops.operators.finite_element_heat import FiniteElementHeat as FiniteElementHeat
from diffusion_ops.operators.finite_element_perona_malik import FiniteElementPeronaMalik as FiniteElementPeronaMalik
from diffusion_ops.operators.fitzhugh_nagumo import FitzHughNagumo as FitzHughNagumo
from diffusion_ops.operators.forward_backward import ForwardBackward as ForwardBackward
from diffusion_ops.operators.geodesic_labels import GeodesicLabels as GeodesicLabels
from diffusion_ops.operators.gradient_magnitude import GradientMagnitude as GradientMagnitude
from diffusion_ops.operators.gray_scott import GrayScott as GrayScott
from diffusion_ops.operators.heat import Heat as Heat
from diffusion_ops.operators.inpainting import Inpainting as Inpainting
from diffusion_ops.operators.inverse_diffusion import InverseDiffusion as InverseDiffusion
from diffusion_ops.operators.mean_curvature import MeanCurvature as MeanCurvature
from diffusion_ops.operators.min_max_curvature import MinMaxCurvature as MinMaxCurvature
from diffusion_ops.operators.morphological_chan_vese import MorphologicalChanVese as MorphologicalChanVese
from diffusion_ops.operators.morphological_geodesic_contour import MorphologicalGeodesicContour as MorphologicalGeodesicContour
from diffusion_ops.operators.orientation import Orientation as Orientation
from diffusion_ops.operators.perona_malik import PeronaMalik as PeronaMalik
from diffusion_ops.operators.random_noise import RandomNoise as RandomNoise
from diffusion_ops.operators.random_walker import RandomWalker as RandomWalker
from diffusion_ops.operators.salt_and_pepper import SaltAndPepper as SaltAndPepper
from diffusion_ops.operators.schnakenberg import Schnakenberg as Schnakenberg
from diffusion_ops.operators.shock import Shock as Shock
from diffusion_ops.operators.shortest_path import ShortestPath as ShortestPath
from diffusion_ops.operators.signed_distance import SignedDistance as SignedDistance
from diffusion_ops.operators.speckle_reducing import SpeckleReducing as SpeckleReducing
from diffusion_ops.operators.stain_separation import StainSeparation as StainSeparation
from diffusion_ops.operators.stochastic_heat import StochasticHeat as StochasticHeat
from diffusion_ops.operators.threshold_dynamics import ThresholdDynamics as ThresholdDynamics
from diffusion_ops.operators.thresholding import Thresholding as Thresholding
from diffusion_ops.operators.total_variation import TotalVariation as TotalVariation
from diffusion_ops.operators.total_variation_flow import TotalVariationFlow as TotalVariationFlow
from diffusion_ops.operators.zero_crossings import ZeroCrossings as ZeroCrossings
from diffusion_ops.solve import solve as solve
from diffusion_ops.statistics.duality_gap import DualityGap as DualityGap
from diffusion_ops.statistics.energy import Energy as Energy
from diffusion_ops.statistics.extremes import Maximum as Maximum
from diffusion_ops.statistics.extremes import Minimum as Minimum
from diffusion_ops.statistics.gradient import GradientMAD as GradientMAD
from diffusion_ops.statistics.gradient import GradientQuantile as GradientQuantile
from diffusion_ops.statistics.gradient_rms import GradientRMS as GradientRMS
from diffusion_ops.statistics.mean import Mean as Mean
from diffusion_ops.statistics.noise import Noise as Noise
from diffusion_ops.statistics.noise_gradient import NoiseGradient as NoiseGradient
from diffusion_ops.statistics.otsu import Otsu as Otsu
from diffusion_ops.statistics.potential import Potential as Potential
from diffusion_ops.statistics.rof_energy import RofEnergy as RofEnergy
from diffusion_ops.statistics.speckle import SpeckleLevel as SpeckleLevel
from diffusion_ops.statistics.standard_deviation import StandardDeviation as StandardDeviation
from diffusion_ops.statistics.value_range import Range as Range
from diffusion_ops.statistics.variance import Variance as Variance
from diffusion_ops.tuning.criterion import CRITERIA as CRITERIA
from diffusion_ops.tuning.criterion import Criterion as Criterion
from diffusion_ops.tuning.tune import Tuning as Tuning
from diffusion_ops.tuning.tune import tune as tune

__all__ = [
    "Adaptive",
    "AdditiveSplitting",
    "AffineCurvature",
    "AllenCahn",
    "Block",
    "CRITERIA",
    "Canny",
    "ChanVese",
    "Choice",
    "Coherence",
    "CoherenceEnhancing",
    "Components",
    "Count",
    "Criterion",
    "CurvatureDiffusion",
    "Cycle",
    "Cycles",
    "DifferenceOfGaussians",
    "DiffuseAccessor",
    "DualityGap",
    "EdgeEnhancing",
    "EdgeStopping",
    "Eikonal",
    "Energy",
    "Ensemble",
    "Explicit",
    "Extrema",
    "FiniteElementHeat",
    "FiniteElementPeronaMalik",
    "FitzHughNagumo",
    "ForwardBackward",
    "GeodesicLabels",
    "GradientMAD",
    "GradientMagnitude",
    "GradientQuantile",
    "GradientRMS",
    "GrayScott",
    "Heat",
    "Inpainting",
    "InverseDiffusion",
    "Iteration",
    "Leg",
    "Map",
    "Maximum",
    "Mean",
    "MeanCurvature",
    "MinMaxCurvature",
    "Minimum",
    "MorphologicalChanVese",
    "MorphologicalGeodesicContour",
    "Noise",
    "NoiseGradient",
    "Number",
    "OPERATORS",
    "Operator",
    "Orientation",
    "Otsu",
    "Parameter",
    "PeronaMalik",
    "Potential",
    "Problem",
    "RandomNoise",
    "RandomWalker",
    "Range",
    "RateOperator",
    "RofEnergy",
    "STATISTICS",
    "SaltAndPepper",
    "Schedule",
    "Schnakenberg",
    "Setting",
    "Shock",
    "ShortestPath",
    "SignedDistance",
    "SpeckleLevel",
    "SpeckleReducing",
    "StainSeparation",
    "StandardDeviation",
    "Statistic",
    "StochasticHeat",
    "ThresholdDynamics",
    "Thresholding",
    "TotalVariation",
    "TotalVariationFlow",
    "Tuning",
    "Variance",
    "ZeroCrossings",
    "advance",
    "combine",
    "ensemble",
    "evolve",
    "parameter",
    "register",
    "solve",
    "total_halo",
    "tune",
]
