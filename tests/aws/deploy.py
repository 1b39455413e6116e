#!/usr/bin/env python3
"""Deploys infra/aws/template.yaml to an emulator of AWS, or to AWS itself, without the SAM command.

    deploy.py --endpoint http://127.0.0.1:4566 --stack syncline --build infra/aws/build
    deploy.py --endpoint … --stack syncline --delete

--build is the folder with a folder per function, each with a `bootstrap` and a `syncline.yaml`.
A stack that exists is updated. The outputs are printed as JSON. Needs boto3.

What an emulator lacks is made up for here, so that the template stays as AWS wants it: alarms over
expressions are left out; batches of messages are allowed by actions that AWS does not have (there
`sqs:SendMessage` allows `SendMessageBatch`); time to live is switched on by a call of its own; and the
concurrency of queues is set anew as a number, because the emulator keeps the text of the parameter.
"""

import argparse
import hashlib
import io
import json
import pathlib
import re
import sys
import time
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

TEMPLATE = pathlib.Path(__file__).parents[2] / "infra/aws/template.yaml"
CODE = re.compile(r"CodeUri: build/([a-z-]+)/")
BATCHES = re.compile(r"sqs:(SendMessage|ChangeMessageVisibility)\b")
# An action that is not in a list.
SINGLE = re.compile(r"Action: (sqs:\w+)$", re.MULTILINE)
# The first of the variables that all functions have.
FIRST_VARIABLE = re.compile(r"^        SYNCLINE_STACK: ", re.MULTILINE)
# A resource with all its lines, the empty ones behind it included.
ALARM = re.compile(r"^  \w+:\n    Type: AWS::CloudWatch::Alarm\n(?:    .*\n|\n)*", re.MULTILINE)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", help="where the emulator listens; AWS itself without it")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--stack", required=True)
    parser.add_argument("--build", type=pathlib.Path, help="the folder with the packaged functions")
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--secret", action="append", default=[], metavar="NAME=TEXT", help="a secret of the stack")
    parser.add_argument("--visibility", type=int, help="seconds after which messages of killed workers come back")
    parser.add_argument("--variable", action="append", default=[], metavar="NAME=TEXT", help="one more for all functions")
    parser.add_argument("--user", action="append", default=[], metavar="NAME=OUTPUT", help="a person with the policy of an output")
    parser.add_argument("--delete", action="store_true", help="delete the stack, and what it would keep")
    parser.add_argument("--timeout", type=int, default=300)
    return parser.parse_args()


class Deployment:
    def __init__(self, args):
        self.args = args
        # Names of buckets in the path: only AWS has a host name for each.
        config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3})
        keys = {}
        if args.endpoint and not boto3.Session().get_credentials():
            keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        session = boto3.Session(region_name=args.region, **keys)

        def client(name):
            return session.client(name, endpoint_url=args.endpoint, config=config)

        self.formation, self.s3, self.sqs = client("cloudformation"), client("s3"), client("sqs")
        self.dynamodb, self.sts, self.functions = client("dynamodb"), client("sts"), client("lambda")
        self.secrets, self.iam = client("secretsmanager"), client("iam")
        place = f"{self.sts.get_caller_identity()['Account']}-{args.region}"
        self.artifacts, self.blobs = f"{args.stack}-artifacts-{place}", f"{args.stack}-{place}"

    def upload(self, name, data, suffix):
        key = f"{name}-{hashlib.sha256(data).hexdigest()[:16]}{suffix}"
        self.s3.put_object(Bucket=self.artifacts, Key=key, Body=data)
        return key

    def package(self):
        """The template with its code in the artifact bucket."""
        try:
            where = {}
            if self.args.region != "us-east-1":
                where = {"CreateBucketConfiguration": {"LocationConstraint": self.args.region}}
            self.s3.create_bucket(Bucket=self.artifacts, **where)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

        def packaged(match):
            key = self.upload(match[1], zipped(self.args.build / match[1]), ".zip")
            return f"CodeUri: s3://{self.artifacts}/{key}"

        template = CODE.sub(packaged, TEMPLATE.read_text())
        if self.args.endpoint:
            template = ALARM.sub(lambda alarm: "" if "\n      Metrics:\n" in alarm[0] else alarm[0], template)
            template = SINGLE.sub(r"Action: [\1]", template)
            template = BATCHES.sub(r"sqs:\1, sqs:\1Batch", template)
        more = pairs(self.args.variable)
        lines = "".join(f"        {name}: {json.dumps(text)}\n" for name, text in more)
        template = FIRST_VARIABLE.sub(lambda first: lines + first[0], template)
        return template

    def state(self):
        try:
            return self.formation.describe_stacks(StackName=self.args.stack)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise

    def deploy(self):
        # Larger than what CloudFormation takes inline.
        key = self.upload("template", self.package().encode(), ".yaml")
        base = self.args.endpoint or f"https://s3.{self.args.region}.amazonaws.com"
        given = dict(pairs(self.args.parameter))
        request = {
            "StackName": self.args.stack,
            "TemplateURL": f"{base}/{self.artifacts}/{key}",
            "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
            "Capabilities": ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
            "Tags": [{"Key": "application", "Value": "syncline"}],
        }
        existing = self.state()
        if existing and existing["StackStatus"] == "ROLLBACK_COMPLETE":
            # Its creation failed: nothing of it is there, and it cannot be updated.
            self.formation.delete_stack(StackName=self.args.stack)
            self.settled({"DELETE_COMPLETE"})
            existing = None
        if existing and existing["StackStatus"] not in ("DELETE_COMPLETE", "REVIEW_IN_PROGRESS"):
            # Parameters that are not given keep their value.
            before = {parameter["ParameterKey"] for parameter in existing.get("Parameters", [])}
            request["Parameters"] += [
                {"ParameterKey": name, "UsePreviousValue": True} for name in sorted(before - given.keys())
            ]
            try:
                self.formation.update_stack(**request)
            except ClientError as error:
                if "No updates" not in str(error):
                    raise
        else:
            self.formation.create_stack(**request)
        stack = self.settled({"CREATE_COMPLETE", "UPDATE_COMPLETE"})
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        if self.args.endpoint:
            self.expire(outputs["StateTable"])
            self.bound_concurrency()
        if self.args.visibility is not None:
            self.shorten_visibility()
        for name, text in pairs(self.args.secret):
            self.keep_secret(name, text)
        users = {name: self.make_user(name, outputs.get(policy)) for name, policy in pairs(self.args.user)}
        print(json.dumps({"Status": stack["StackStatus"], "Users": users, **outputs}, indent=2))

    def settled(self, wanted):
        """The stack once nothing changes any more; whatever is not `wanted` ends this command."""
        until = time.monotonic() + self.args.timeout
        while time.monotonic() < until:
            stack = self.state()
            status = stack["StackStatus"] if stack else "DELETE_COMPLETE"
            if status in wanted:
                return stack
            if not status.endswith("_IN_PROGRESS"):
                self.complain(status)
            time.sleep(0.5)
        sys.exit(f"the stack is not settled after {self.args.timeout} s")

    def complain(self, status):
        for event in self.formation.describe_stack_events(StackName=self.args.stack)["StackEvents"]:
            if event["ResourceStatus"].endswith("FAILED"):
                reason = event.get("ResourceStatusReason", "")
                print(f"{event['LogicalResourceId']}: {event['ResourceStatus']}: {reason}", file=sys.stderr)
        sys.exit(f"the stack ended in {status}")

    def expire(self, table):
        now = self.dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        if now["TimeToLiveStatus"] == "DISABLED":
            self.dynamodb.update_time_to_live(
                TableName=table, TimeToLiveSpecification={"AttributeName": "ttl", "Enabled": True}
            )

    def bound_concurrency(self):
        for page in self.functions.get_paginator("list_event_source_mappings").paginate():
            for mapping in page["EventSourceMappings"]:
                bound = mapping.get("ScalingConfig", {}).get("MaximumConcurrency")
                if f":{self.args.stack}-" in mapping["EventSourceArn"] and bound:
                    self.functions.update_event_source_mapping(
                        UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": int(bound)}
                    )

    def keep_secret(self, name, text):
        name = f"{self.args.stack}/{name}"
        try:
            self.secrets.create_secret(Name=name, SecretString=text)
        except self.secrets.exceptions.ResourceExistsException:
            self.secrets.put_secret_value(SecretId=name, SecretString=text)

    def make_user(self, name, policy):
        """A person with one policy, or with none; the keys they sign with."""
        user = f"{self.args.stack}-{name}"
        self.iam.create_user(UserName=user)
        if policy:
            self.iam.attach_user_policy(UserName=user, PolicyArn=policy)
        key = self.iam.create_access_key(UserName=user)["AccessKey"]
        return [key["AccessKeyId"], key["SecretAccessKey"]]

    def shorten_visibility(self):
        for url in self.sqs.list_queues(QueueNamePrefix=f"{self.args.stack}-").get("QueueUrls", []):
            self.sqs.set_queue_attributes(
                QueueUrl=url, Attributes={"VisibilityTimeout": str(self.args.visibility)}
            )

    def delete(self):
        """Deletes everything. Only for emulators: tables and bucket of a real stack are kept."""
        if not self.args.endpoint:
            sys.exit("--delete is for emulators; on AWS use `make teardown` in infra/aws")
        if self.state():
            self.formation.delete_stack(StackName=self.args.stack)
            self.settled({"DELETE_COMPLETE"})
        kept = self.dynamodb.list_tables()["TableNames"]
        for table in (f"{self.args.stack}-state", f"{self.args.stack}-failures"):
            if table in kept:
                self.dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)
                self.dynamodb.delete_table(TableName=table)
        for bucket in (self.blobs, self.artifacts):
            self.delete_bucket(bucket)
        print(json.dumps({"Status": "DELETE_COMPLETE"}))

    def delete_bucket(self, bucket):
        try:
            pages = self.s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
            for page in pages:
                for item in page.get("Versions", []) + page.get("DeleteMarkers", []):
                    self.s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
            self.s3.delete_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                raise


def pairs(options):
    return [option.split("=", 1) for option in options]


def zipped(folder):
    """A zip of a folder, the same for the same files."""
    if not (folder / "bootstrap").is_file():
        sys.exit(f"{folder}/bootstrap is missing: build the functions first")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(file.relative_to(folder)), (2020, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if file.name == "bootstrap" else 0o644) << 16
            archive.writestr(entry, file.read_bytes())
    return data.getvalue()


def main():
    args = arguments()
    deployment = Deployment(args)
    if args.delete:
        return deployment.delete()
    if not args.build:
        sys.exit("--build is missing")
    if args.user and not args.endpoint:
        sys.exit("--user is for emulators: it prints the keys")
    return deployment.deploy()


if __name__ == "__main__":
    main()
