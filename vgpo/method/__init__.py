"""The paper's mathematics, Eq. 3-12, its released variant, and methods as plug-ins.

Needs torch alone. The methods that come with the package register themselves here.
"""

from vgpo.method import entropy as entropy
from vgpo.method import gpg as gpg
from vgpo.method import papo as papo
from vgpo.method import pepo as pepo
from vgpo.method import plain as plain
from vgpo.method import srpo as srpo
from vgpo.method import visual as visual
from vgpo.method import vppo as vppo
