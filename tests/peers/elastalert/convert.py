"""Makes rules of ElastAlert of Sigma's: convert.py FOLDER RULE... writes FOLDER/RULE.yaml for each.

The backend is pySigma's own; which field of Sigma's is which of the store's is this platform's to say.
What all rules of a test have in common they take from base.yaml.
"""

import sys
from pathlib import Path

import yaml
from sigma.backends.elasticsearch.elasticsearch_elastalert import ElastalertBackend
from sigma.collection import SigmaCollection
from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.processing.transformations import FieldMappingTransformation

FIELDS = {
    "EventID": "winlog.event_id",
    "Image": "process.executable",
    "CommandLine": "process.command_line",
    "ScriptBlockText": "powershell.file.script_block_text",
    "ServiceName": "winlog.event_data.ServiceName",
    "SubjectUserName": "winlog.event_data.SubjectUserName",
    "TargetUserName": "winlog.event_data.TargetUserName",
    "c-useragent": "user_agent.original",
}

folder = Path(sys.argv[1])
fields = ProcessingPipeline(items=[ProcessingItem(FieldMappingTransformation(FIELDS))])
for source in map(Path, sys.argv[2:]):
    (text,) = ElastalertBackend(fields).convert(SigmaCollection.load_ruleset([source]))
    rule = yaml.safe_load(text)
    # What it looks at is base.yaml's to say.
    del rule["index"]
    rule["import"] = "../base.yaml"
    (folder / source.with_suffix(".yaml").name).write_text(yaml.safe_dump(rule))
