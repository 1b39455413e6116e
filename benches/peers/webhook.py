"""What webhook-intake does at its heart, in Python: verify, parse, send. With the loop of a Lambda
runtime around it, as thin as it can be, so that the language and its SDK are what is measured."""

import hashlib
import hmac
import http.client
import json
import os

import boto3

SECRET = os.environ["HOOK_SECRET"].encode()
QUEUE = os.environ["SYNCLINE_QUEUE_LIVE"]
SQS = boto3.client("sqs")


def handle(event):
    body = event["body"].encode()
    said = event["headers"].get("x-signature", "")
    mac = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(mac, said):
        return {"statusCode": 401}
    record = json.loads(body)["data"]
    SQS.send_message(QueueUrl=QUEUE, MessageBody=json.dumps({"map": "customers", "raw": record}))
    return {"statusCode": 202, "body": json.dumps({"accepted": 1})}


def main():
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        api.request("GET", "/2018-06-01/runtime/invocation/next")
        answer = api.getresponse()
        request = answer.headers["Lambda-Runtime-Aws-Request-Id"]
        event = json.loads(answer.read())
        said = json.dumps(handle(event))
        api.request("POST", f"/2018-06-01/runtime/invocation/{request}/response", said)
        api.getresponse().read()


main()
