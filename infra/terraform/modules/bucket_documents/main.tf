# The policies of a bucket and its key, made of the variables alone, so that they can be read without any provider.
locals {
  bucket_arn = "arn:${var.partition}:s3:::${var.name}"
  whole      = [local.bucket_arn, "${local.bucket_arn}/*"]
  by_s3      = { StringEquals = { "kms:ViaService" = "s3.${var.aws_region}.amazonaws.com" } }

  uses = [
    { sid = "Writers", roles = var.writer_arns, actions = ["kms:Decrypt", "kms:GenerateDataKey"] },
    { sid = "Readers", roles = var.reader_arns, actions = ["kms:Decrypt"] },
  ]
}

output "bucket_policy" {
  description = "No access without TLS, and no object under another key."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = local.whole
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        # A request that says nothing gets the bucket's default, which is its key.
        Sid       = "OnlyKms"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = "${local.bucket_arn}/*"
        Condition = {
          Null            = { "s3:x-amz-server-side-encryption" = "false" }
          StringNotEquals = { "s3:x-amz-server-side-encryption" = "aws:kms" }
        }
      },
      {
        Sid       = "OnlyItsKey"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = "${local.bucket_arn}/*"
        Condition = {
          Null         = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = "false" }
          ArnNotEquals = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = var.key_arn }
        }
      },
    ]
  })
}

output "key_policy" {
  description = "The account administers the key; only the roles use it, and only through S3."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid       = "Administration"
          Effect    = "Allow"
          Principal = { AWS = "arn:${var.partition}:iam::${var.account_id}:root" }
          Action = [
            "kms:CancelKeyDeletion",
            "kms:CreateAlias",
            "kms:DeleteAlias",
            "kms:DescribeKey",
            "kms:DisableKey",
            "kms:EnableKey",
            "kms:EnableKeyRotation",
            "kms:GetKeyPolicy",
            "kms:GetKeyRotationStatus",
            "kms:ListAliases",
            "kms:ListKeyPolicies",
            "kms:ListResourceTags",
            "kms:PutKeyPolicy",
            "kms:ScheduleKeyDeletion",
            "kms:TagResource",
            "kms:UntagResource",
            "kms:UpdateAlias",
            "kms:UpdateKeyDescription",
          ]
          # In a key's policy this is the key itself.
          Resource = "*"
        }
      ],
      [
        for use in local.uses : {
          Sid       = use.sid
          Effect    = "Allow"
          Principal = { AWS = use.roles }
          Action    = use.actions
          Resource  = "*"
          Condition = local.by_s3
        } if length(use.roles) > 0
      ]
    )
  })
}
