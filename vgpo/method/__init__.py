"""The paper's mathematics, Eq. 3-12, its released variant, and methods as plug-ins.

Needs torch alone. The methods that come with the package register themselves here.
"""

from vgpo.method import plain as plain
from vgpo.method import visual as visual
